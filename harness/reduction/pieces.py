"""The reductions of some blocks, system by system."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from harness.models.orders import Order

from .balanced import Truncation, check_not_zero, reduce, reduce_smallest
from .hankel import Decomposition
from .modes import best, drawn, scores, select
from .naming import naming_block, naming_system
from .parallel import side_by_side, workers
from .ranks import BlockDecomposition, Ranked, SystemDecomposition
from .real import RealDecomposition, reduced_real
from .selective import SelectiveDecomposition, StateSelection
from .selective.stand_ins import StandIn
from .singular_perturbation import residualise
from .stacks import StackTruncation, leading
from .weighting.measured import WeightedDecomposition
from .weighting.reduce import reduce_weighted

BlockTruncation = Truncation | StackTruncation | StateSelection
BALANCING = ("balanced", "smallest", "singular_perturbation")  # not a choice of modes


def all_reduced(
    blocks: Mapping[int, BlockDecomposition],
    orders: Mapping[int, Order],
    how: str,
    generator: np.random.Generator | None,
) -> list[BlockTruncation]:
    """The reductions of the blocks in `orders`, in order; an error names its block and system."""
    pieces = [piece for i, order in orders.items() for piece in _pieces(i, blocks[i], order)]
    if how == "random":
        assert generator is not None
        pieces = [replace(one, lot=one.drawn(generator)) for one in pieces]
    at_once = min((workers(one.order, one.system.hsv.device) for one in pieces), default=1)
    rest = iter(side_by_side(lambda one: one.reduced(how), pieces, at_once))
    found: list[BlockTruncation] = []
    for order in orders.values():
        if isinstance(order, tuple):
            found.append(StackTruncation(tuple(next(rest) for _ in order)))
        else:
            found.append(next(rest))
    return found


@dataclass(frozen=True)
class Piece:
    """One system of a block, and the order that it goes to; `place` is its place in a stack."""

    block: int
    place: int | None
    system: Ranked
    order: int
    lot: torch.Tensor | None = None  # the modes that chance keeps

    @property
    def stays(self) -> bool:
        """Whether it is a system of a stack that keeps its order, and with it its basis."""
        return self.place is not None and self.order == self.system.state_dim

    def drawn(self, generator: np.random.Generator) -> torch.Tensor | None:
        """Modes by lot, one draw of the generator; None, and no draw, where the system stays."""
        return None if self.stays else drawn(self.system.state_dim, self.order, generator)

    def reduced(self, how: str) -> Any:
        """The system at its order."""
        with naming_block(self.block), naming_system(self.place):
            if isinstance(self.system, SelectiveDecomposition):
                return self.system.kept(self.order, how, self.lot)
            if isinstance(self.system, StandIn):
                return self.system.reduced(self.order, how, self.lot)
            if self.stays:
                return leading(self.system, self.order)
            if self.place is not None and not bool(self.system.hsv.any()):
                return leading(self.system, 1)  # no state connects its input and its output
            return _reduced(self.system, self.order, how, self.lot)


def _pieces(i: int, block: BlockDecomposition, order: Order) -> list[Piece]:
    """A block's systems with their orders.

    Raises:
        ValueError: a stack without any energy.
    """
    if not isinstance(order, tuple):
        return [Piece(i, None, block.systems[0], order)]
    with naming_block(i):
        check_not_zero(block.hsv.max()[None])
    together = zip(block.systems, order, strict=True)
    return [Piece(i, place, one, n) for place, (one, n) in enumerate(together)]


def _reduced(
    system: SystemDecomposition, order: int, how: str, lot: torch.Tensor | None
) -> Truncation:
    if how not in BALANCING:
        return select(system, best(scores(system, how), order) if lot is None else lot)
    if isinstance(system, RealDecomposition):
        return reduced_real(system, order, lambda whole, r: _balanced(whole, r, how))
    return _balanced(system, order, how)


def _balanced(system: Decomposition, order: int, how: str) -> Truncation:
    if how == "balanced" and isinstance(system, WeightedDecomposition):
        return reduce_weighted(system, order)
    if how == "balanced":
        return reduce(system, order)
    if how == "smallest":
        return reduce_smallest(system, order)
    return residualise(system, order)
