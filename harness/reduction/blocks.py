"""A model's blocks as reduction sees them: layers that give a system, or a stack of systems."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from harness.models.orders import Order, order_of

from .gramians import gramians
from .hankel import decompose
from .naming import naming_block
from .parallel import side_by_side, workers
from .ranks import BlockDecomposition, SystemDecomposition
from .real import Realness, decompose_real
from .selective import SelectiveDecomposition, SelectiveLayer
from .selective.stand_ins import StandIn
from .stacks import StackDecomposition, System, unpadded


@runtime_checkable
class StateSpaceLayer(Protocol):
    """What a layer must offer to be truncated.

    After `assign`, `system` must be what was assigned. A layer may also offer

    - `conjugates`, true where each state stands for its conjugate, too: the system is then reduced
      as the real one that it is (`real.py`), and orders count the states as they are stored;
    - `orders`, (S,) integers: the layer is then a stack of S systems side by side, each of inputs
      and outputs of its own, and `system()` gives (eigenvalues (S, N), B (S, N, I), C (S, O, N)),
      N = `state_dim` = the largest order. Of system s the first `orders[s]` states are there; the
      rest is padding, which adds nothing to the output and stays so in training. `assign` and
      `keep_modes` then take the new orders, (S,) int64 on the CPU, as their last argument;
    - `keep_modes(modes)`, to slice its parameters where modes are selected, so that they stay what
      they are to the bit; a stack takes (S, r) indices, padded with 0;
    - `add_gain(gain)`, to add Re(gain) u to its output with a parameter `gain` beside one named D;
    - `transports`, {"B": (real part, imaginary part), "C": the same}: the names of the parameters
      whose moments follow a change of basis, (N, H) and (H, N), in a stack (S, N, I) and (S, O, N),
      or (S, N) where I or O is 1; and `restarts`, the names of those whose moments start again;
    - `input_scale()`, (N,) or (S, N) real or complex: what the rows of these parameters are
      multiplied by to give the B of `system()`; 1 where a layer does not say;
    - `state_axis(name)`, the axis along which a parameter counts states; a stack must say it where
      moments are sliced.
    """

    @property
    def state_dim(self) -> int: ...

    def system(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]: ...

    def assign(self, *system: torch.Tensor) -> None: ...


def layers(model: nn.Module) -> list[Any]:
    """The state-space layers of a model, a user's own too, in order; all selective, or none.

    Raises:
        ValueError: the model has none, or both kinds.
    """
    found = [m for m in model.modules() if isinstance(m, StateSpaceLayer | SelectiveLayer)]
    if not found:
        raise ValueError(f"{type(model).__name__} has no state-space layer to truncate")
    if are_selective(found) and not all(isinstance(one, SelectiveLayer) for one in found):
        raise ValueError(
            f"{type(model).__name__} has selective layers and others: truncate neither"
        )
    return found


def are_selective(found: Sequence[Any]) -> bool:
    """Whether layers are ranked by systems that stand in for them (`selective`)."""
    return any(isinstance(one, SelectiveLayer) for one in found)


def decompositions(model: nn.Module, realness: Realness = "complex") -> list[BlockDecomposition]:
    """What the spectrum and a truncation of each layer need; systems of one size in one batch.

    realness: `real` takes the states of a layer without `conjugates` for one of each pair, too.

    Raises:
        ValueError: a layer that gives a stack of systems without their `orders`, or the reverse; a
            selective layer, which has no system (see `selective_decompositions`); `real` for a
            layer that has conjugates anyway.
        UnusableSystem: a layer's system is not finite or not stable; names the block.
    """
    return list(decomposed_of(dict(enumerate(layers(model))), realness).values())


def decomposed_of(
    chosen: dict[int, Any], realness: Realness = "complex"
) -> dict[int, BlockDecomposition]:
    """The decompositions of some layers by the index of their block."""
    if are_selective(list(chosen.values())):
        raise ValueError(
            "selective layers have no system of their own: what stands in for it is measured on "
            "`calibration` batches"
        )
    given = {i: layer.system() for i, layer in chosen.items()}
    real = _real_ones(chosen, realness)
    orders = {i: order_of(layer) for i, layer in chosen.items()}
    for i, system in given.items():
        _check_stack(i, system, orders[i])
    single = {i: one for i, one in given.items() if not isinstance(orders[i], tuple)}
    found: dict[int, BlockDecomposition] = {**_all_decomposed(single, real)}
    for i, order in orders.items():
        if isinstance(order, tuple):
            systems = dict(enumerate(unpadded(given[i], order)))
            with naming_block(i):
                members = _all_decomposed(systems, set(systems) if i in real else set(), "system")
                found[i] = StackDecomposition(tuple(members.values()))
    return {i: found[i] for i in chosen}


def _real_ones(chosen: dict[int, Any], realness: Realness) -> set[int]:
    """The blocks whose states stand for their conjugates, too, or are to be balanced as if."""
    paired = {i for i, layer in chosen.items() if getattr(layer, "conjugates", False)}
    if realness == "complex":
        return paired
    for i in paired:
        raise ValueError(
            f"block {i}: {type(chosen[i]).__name__} is balanced as a real system already, since "
            "its states stand for their conjugates: leave out realness 'real'"
        )
    return set(chosen)


def _check_stack(i: int, system: System, order: Order) -> None:
    """Raise `ValueError` unless a stack has orders that fit it, and a single system has none."""
    shape = tuple(system[0].shape)
    if (len(shape) == 2) != isinstance(order, tuple):
        says = "`orders`" if isinstance(order, tuple) else "no `orders`"
        raise ValueError(f"block {i}: system() has eigenvalues of shape {shape}, and {says}")
    if isinstance(order, tuple):
        size, n = shape
        if len(order) != size or min(order, default=0) < 1 or max(order) != n:
            raise ValueError(
                f"block {i}: `orders` must be {size} numbers from 1 to {n}, the largest {n}"
            )


def _all_decomposed(
    systems: dict[int, System], real: set[int], what: str = "block"
) -> dict[int, SystemDecomposition]:
    """Decompositions of systems by their keys, those of one size in one batch; `real` are the keys
    of systems whose states stand for their conjugates, too."""
    alike: dict[Any, list[int]] = {}
    for i, system in systems.items():
        shapes = tuple(tuple(array.shape) for array in system)
        alike.setdefault((shapes, system[0].device, i in real), []).append(i)
    found: dict[int, SystemDecomposition] = {}
    for (shapes, device, is_real), members in alike.items():
        stacks = [torch.stack(parts) for parts in zip(*(systems[i] for i in members), strict=True)]
        try:
            some = _decomposed_stack(stacks, workers(shapes[0][0], device), is_real)
        except ValueError:
            for i, system in systems.items():  # one of them: which?
                with naming_block(i, what):
                    gramians(*system)
            raise
        found |= dict(zip(members, some, strict=True))
    return {i: found[i] for i in systems}


def _decomposed_stack(
    stacks: list[torch.Tensor], at_once: int, is_real: bool
) -> list[SystemDecomposition]:
    """Systems of one size, in as many batches as are worked on at a time."""
    parts = min(at_once, len(stacks[0]))
    split = (stack.detach().to(torch.complex128).tensor_split(parts) for stack in stacks)
    batches = list(zip(*split, strict=True))

    def decomposed(arrays: tuple[torch.Tensor, ...]) -> Sequence[SystemDecomposition]:
        return decompose_real(*arrays) if is_real else decompose(*arrays).unstack()

    return [one for batch in side_by_side(decomposed, batches, parts) for one in batch]


def spectra(model: nn.Module) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """For each layer its Hankel singular values and mode shares, float64, (N,) each; of a stack
    those of its systems one after the other.

    Raises:
        UnusableSystem: a layer's system is not finite or not stable; names the block.
    """
    return [(one.hsv, one.mode_shares) for one in decompositions(model)]


def given_of(
    decomposed: Sequence[BlockDecomposition], found: list[Any], realness: Realness
) -> dict[int, BlockDecomposition]:
    """The caller's decompositions by block. Raises ValueError where they are of other systems."""
    if len(decomposed) != len(found) or not all(map(_is_of, decomposed, found)):
        raise ValueError("the decompositions are not those of the model as it is now")
    if not are_selective(found):
        real = _real_ones(dict(enumerate(found)), realness)
        if any(one.is_real != (i in real) for i, b in enumerate(decomposed) for one in b.systems):
            raise ValueError(f"the decompositions are of another realness than {realness!r}")
    return dict(enumerate(decomposed))


def _is_of(given: BlockDecomposition, layer: Any) -> bool:
    if given.order != order_of(layer):
        return False
    if isinstance(given, SelectiveDecomposition) or isinstance(layer, SelectiveLayer):
        return _is_of_selective(given, layer)
    system = layer.system()
    now = unpadded(system, given.order) if isinstance(given.order, tuple) else [system]
    return all(map(_is_system, given.systems, now))


def _is_of_selective(given: BlockDecomposition, layer: Any) -> bool:
    """As far as its rates tell, which are all that does not depend on the data."""
    if isinstance(given, SelectiveDecomposition):
        return torch.equal(given.rates, layer.rates)
    stand_ins = [one for one in given.systems if isinstance(one, StandIn)]
    if len(stand_ins) != len(given.systems):
        return False
    known = [one.rates for one in stand_ins if one.rates is not None]
    if layer.rates.dim() == 1:
        return not known
    now = layer.rates.detach().double()
    return len(known) == len(now) and all(
        torch.equal(rates, row[: len(rates)]) for rates, row in zip(known, now, strict=True)
    )


def _is_system(one: SystemDecomposition, system: System) -> bool:
    now = (array.detach().to(torch.complex128) for array in system)
    given = (one.eigenvalues, one.B, one.C)
    return all(a.device == b.device and torch.equal(a, b) for a, b in zip(given, now, strict=True))
