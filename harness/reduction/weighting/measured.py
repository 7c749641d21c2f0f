"""Gramians of a model's blocks as a weighting asks for them, and their decompositions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ..circle import distances
from ..gramians import square_root
from ..hankel import Decomposition, svd
from ..naming import naming_block
from ..ranks import BlockDecomposition, SystemDecomposition
from ..real import RealDecomposition, root_of
from ..stacks import StackDecomposition, System
from .calibration import Calibration, listen, listen_both_ways
from .choice import Weighting
from .horizon import horizon_gramians
from .states import InputCovariance, SecondMoment

RIDGE = 1e-10  # of a state's own second moment, added to it in a measured Gramian
UNDRIVEN = "the calibration sequences drive no state at all"


@dataclass(frozen=True)
class WeightedDecomposition(Decomposition):
    """A system balanced against something else than white noise: R R^H and L L^H are the weighted
    Gramians, hsv their weighted singular values. `white` is the published decomposition."""

    white: Decomposition
    weighting: Weighting

    @property
    def is_real(self) -> bool:
        return self.white.is_real

    @property
    def mode_gains(self) -> torch.Tensor:
        """(1 - |l_i|^2) (P_ii Q_ii)^(1/2), (N,) float64: the |C_i| |B_i| of the mode that white
        noise would drive, and all outputs show, as much as these Gramians say. For white ones
        P_ii = |B_i|^2 / (1 - |l_i|^2) and Q_ii = |C_i|^2 / (1 - |l_i|^2), so it is |C_i| |B_i|.
        """
        lam = self.eigenvalues
        rows = torch.linalg.vector_norm(self.R, dim=1) * torch.linalg.vector_norm(self.L, dim=1)
        return distances(lam) * (1.0 + lam.abs()) * rows


def weighted_decompositions(
    model: nn.Module,
    layers: Mapping[int, nn.Module],
    white: Mapping[int, BlockDecomposition],
    weighting: Weighting,
    calibration: Calibration,
) -> dict[int, BlockDecomposition]:
    """The decompositions of these blocks under the weighting, from one pass over the calibration
    batches (with a backward pass where the task weighs), whose memory is flat in their number.

    Raises:
        ValueError: naming the block, a layer or a target that cannot; calibration that is empty,
            constant or lacks the length; gradients that are all zero.
    """
    if weighting.is_white or not white:
        return dict(white)
    if weighting.uses_horizon and calibration.length is None:
        raise ValueError("gramians 'horizon' need the `length` of the sequences")
    wholes = {i: [_whole(one) for one in block.systems] for i, block in white.items()}
    systems = {i: _stacked(some) for i, some in wholes.items()}
    P, Q = _moments(model, layers, systems, weighting, calibration)
    found: dict[int, BlockDecomposition] = {}
    for i, block in white.items():
        with naming_block(i):
            one = [
                _weighed(given, _decomposed(system, weighting, calibration.length, p, q))
                for given, system, p, q in zip(block.systems, wholes[i], _each(wholes[i], P.get(i)),
                                               _each(wholes[i], Q.get(i)), strict=True)
            ]  # fmt: skip
        if isinstance(block, StackDecomposition):
            found[i] = replace(block, systems=tuple(one))
        else:
            found[i] = one[0]
    return found


def _whole(system: SystemDecomposition) -> Decomposition:
    """What is measured: all states of a real system, those that are not stored, too."""
    return system.whole if isinstance(system, RealDecomposition) else system


def _weighed(given: SystemDecomposition, whole: Decomposition) -> SystemDecomposition:
    return replace(given, whole=whole) if isinstance(given, RealDecomposition) else whole


def unweighted(system: SystemDecomposition) -> SystemDecomposition:
    """The published decomposition behind a weighted one."""
    whole = _whole(system)
    return _weighed(system, whole.white if isinstance(whole, WeightedDecomposition) else whole)


def stacked(block: BlockDecomposition) -> System:
    """A block's systems side by side, (S, N), (S, N, I), (S, O, N), zero in the padding."""
    return _stacked(block.systems)


def _stacked(systems: Sequence[SystemDecomposition]) -> System:
    n = max(one.state_dim for one in systems)

    def pad(x: torch.Tensor, axis: int) -> torch.Tensor:
        if x.shape[axis] == n:
            return x
        shape = list(x.shape)
        shape[axis] = n - x.shape[axis]
        return torch.cat([x, x.new_zeros(shape)], axis)

    return (
        torch.stack([pad(one.eigenvalues, 0) for one in systems]),
        torch.stack([pad(one.B, 0) for one in systems]),
        torch.stack([pad(one.C, 1) for one in systems]),
    )


def _each(systems: Sequence[Decomposition], gramians: torch.Tensor | None) -> Sequence[Any]:
    if gramians is None:
        return [None] * len(systems)
    orders = [one.state_dim for one in systems]
    return [gramian[:n, :n] for gramian, n in zip(gramians, orders, strict=True)]


def _moments(
    model: nn.Module,
    layers: Mapping[int, nn.Module],
    systems: Mapping[int, System],
    weighting: Weighting,
    calibration: Calibration,
) -> tuple[dict[int, torch.Tensor], dict[int, torch.Tensor]]:
    """Measured controllability and observability Gramians (S, N, N) of the blocks, as asked for."""
    kind = InputCovariance if weighting.controllability == "input" else SecondMoment
    states = {i: kind(lam, b) for i, (lam, b, _) in systems.items()}
    adjoint = {
        i: SecondMoment(lam.conj().resolve_conj(), c.mH.resolve_conj())
        for i, (lam, _, c) in systems.items()
    }

    def inputs(i: int, u: torch.Tensor) -> None:
        check_channels(u, states[i].into, "input")
        states[i].add(u)

    def gradients(i: int, g: torch.Tensor) -> None:
        check_channels(g, adjoint[i].into, "output")
        if weighting.normalise:
            size = torch.linalg.vector_norm(g.double(), dim=(1, 2), keepdim=True)
            g = g / torch.where(size > 0, size, 1.0)
        adjoint[i].add(g.flip(1))

    if weighting.observability == "task":
        hear = inputs if weighting.hears else None
        listen_both_ways(model, layers, calibration, hear, gradients, weighting.target)
    elif weighting.hears:
        listen(model, layers, calibration.batches, inputs)
    P = {i: one.mean for i, one in states.items()} if weighting.hears else {}
    Q = {i: one.mean for i, one in adjoint.items()} if weighting.observability == "task" else {}
    check_measured(P, "states", UNDRIVEN)
    check_measured(Q, "gradients", silent(weighting.target))
    return P, Q


def silent(target: str) -> str:
    """Why gradients that are all zero are refused."""
    return (
        f"all gradients of target {target!r} are zero, as of a task that is fitted perfectly: "
        "choose target 'logits'"
    )


def check_measured(moments: Mapping[int, torch.Tensor], what: str, empty: str) -> None:
    """Raise `ValueError` for second moments by block that are not finite, or all zero."""
    for i, moment in moments.items():
        if not bool(torch.isfinite(moment).all()):
            raise ValueError(
                f"block {i}: the calibration sequences give {what} that are no numbers"
            )
        if not bool(moment.any()):
            raise ValueError(f"block {i}: {empty}")


def check_channels(v: torch.Tensor, into: torch.Tensor, what: str) -> None:
    """Raise `ValueError` unless the layer's channels are those of its systems."""
    wanted = into.shape[0] * into.shape[-1]
    if v.shape[-1] != wanted:
        raise ValueError(
            f"gramians from data need the layer's {what} to be its system's, of {wanted} channels; "
            f"it has {v.shape[-1]}"
        )


def _decomposed(
    white: Decomposition,
    weighting: Weighting,
    length: int | None,
    P: torch.Tensor | None,
    Q: torch.Tensor | None,
) -> WeightedDecomposition:
    system = white.eigenvalues, white.B, white.C
    limited: tuple = (None, None)
    if weighting.uses_horizon:
        assert length is not None
        limited = horizon_gramians(*system, length)
    R, L = white.R, white.L
    if P is not None:
        R = _root(P, root if weighting.controllability == "signal" else square_root, white)
    elif weighting.controllability == "horizon":
        R = _root(limited[0], square_root, white)
    if Q is not None:
        L = _root(Q, root, white)
    elif weighting.observability == "horizon":
        L = _root(limited[1], square_root, white)
    U, S, Vh = svd(L.mH @ R, white.is_real)
    return WeightedDecomposition(*system, R, L, U, S, Vh, white, weighting)


def _root(
    gramian: torch.Tensor, how: Callable[[torch.Tensor], torch.Tensor], white: Decomposition
) -> torch.Tensor:
    return root_of(gramian, how) if white.is_real else how(gramian)


def root(gramian: torch.Tensor) -> torch.Tensor:
    """A factor R with R R^H = gramian, plus 1e-10 of every state's own second moment: directions
    that the data never reach are then weak rather than absent."""
    scaled = gramian.clone()
    scaled.diagonal().mul_(1.0 + RIDGE)
    return square_root((scaled + scaled.mH) / 2)


def weighting_under(system: SystemDecomposition) -> Weighting | None:
    """What a decomposition was weighted by; None for white noise."""
    system = _whole(system)
    return system.weighting if isinstance(system, WeightedDecomposition) else None
