"""Truncate the layers of a model in place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from .balanced import Truncation, TruncationError, is_order, reduce
from .gramians import Array, energy_rank, gramians
from .hankel import Decomposition, decompose
from .moments import Moments, carry_moments, check_moments
from .parallel import side_by_side, workers


@runtime_checkable
class StateSpaceLayer(Protocol):
    """What a layer must offer to be truncated."""

    @property
    def state_dim(self) -> int: ...

    def system(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]: ...

    def assign(self, eigenvalues: torch.Tensor, B: torch.Tensor, C: torch.Tensor) -> None: ...


def layers(model: nn.Module) -> list[Any]:
    """The state-space layers of a model, a user's own too, in order.

    Raises:
        ValueError: the model has none.
    """
    found = [m for m in model.modules() if isinstance(m, StateSpaceLayer)]
    if not found:
        raise ValueError(f"{type(model).__name__} has no state-space layer to truncate")
    return found


def decompositions(model: nn.Module) -> list[Decomposition]:
    """What the spectrum and a truncation of each layer need; layers of one size in one batch.

    Raises:
        UnusableSystem: a layer's system is not finite or not stable; names the block.
    """
    return list(_decomposed(dict(enumerate(layers(model)))).values())


def _decomposed(chosen: dict[int, Any]) -> dict[int, Decomposition]:
    """The decompositions of some layers by the index of their block."""
    systems = {i: layer.system() for i, layer in chosen.items()}
    alike: dict[Any, list[int]] = {}
    for i, system in systems.items():
        shapes = tuple(tuple(array.shape) for array in system)
        alike.setdefault((shapes, system[0].device), []).append(i)
    found: dict[int, Decomposition] = {}
    for (shapes, device), members in alike.items():
        stacks = [torch.stack(parts) for parts in zip(*(systems[i] for i in members), strict=True)]
        try:
            some = _decomposed_stack(stacks, workers(shapes[0][0], device))
        except ValueError:
            for i, system in systems.items():  # one of them: which?
                with naming_block(i):
                    gramians(*system)
            raise
        found |= dict(zip(members, some, strict=True))
    return {i: found[i] for i in systems}


def _decomposed_stack(stacks: list[torch.Tensor], at_once: int) -> list[Decomposition]:
    """Systems of one size, in as many batches as are worked on at a time."""
    parts = min(at_once, len(stacks[0]))
    split = (stack.detach().to(torch.complex128).tensor_split(parts) for stack in stacks)
    batches = side_by_side(lambda arrays: decompose(*arrays), list(zip(*split, strict=True)), parts)
    return [one for batch in batches for one in batch.unstack()]


def spectra(model: nn.Module) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """For each layer its Hankel singular values and mode shares, float64, (N,) each.

    Raises:
        UnusableSystem: a layer's system is not finite or not stable; names the block.
    """
    return [(one.hsv, one.mode_shares) for one in decompositions(model)]


@contextlib.contextmanager
def naming_block(i: int) -> Iterator[None]:
    """A `ValueError` from inside says which block it speaks of."""
    try:
        yield
    except ValueError as error:
        raise type(error)(f"block {i}: {error}") from error


def truncate(
    model: nn.Module,
    *,
    tau: float | None = None,
    state_dims: int | Sequence[int] | Array | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    moments: Moments = "transport",
    decomposed: Sequence[Decomposition] | None = None,
) -> list[Truncation]:
    """Balanced truncation of every layer, in place; a block at its rank already stays untouched.

    Args:
        tau: fraction of Hankel energy to discard, per block; or
        state_dims: the order of every block, or one per block, in any sequence or array.
        optimizer: follows the new parameters; its moments are carried as `moments` says.
        decomposed: what `decompositions` gave for the model as it is now, to save the work.

    Returns:
        One `Truncation` per block that changed, in order. A failure leaves the model as it was.

    Raises:
        ValueError: not exactly one of tau and state_dims, or, naming the block, an order
            outside 1..N, an unusable system (`UnusableSystem`), a reduced system without a
            usable diagonal form (`TruncationError`); an optimizer whose moments are not Adam's;
            decompositions of another model.
    """
    found = layers(model)
    wanted = _wanted(found, tau, state_dims)
    if optimizer is not None:
        check_moments(optimizer, moments)
    moving = {i: layer for i, layer in enumerate(found) if wanted[i] != layer.state_dim}
    if decomposed is None:
        systems = _decomposed(moving)
    else:
        systems = dict(enumerate(decomposed))
        if [len(one.hsv) for one in decomposed] != [layer.state_dim for layer in found]:
            raise ValueError("the decompositions are not those of the model as it is now")
    ranks = {i: _rank(i, systems[i], wanted[i], tau) for i in moving}
    ranks = {i: rank for i, rank in ranks.items() if rank != found[i].state_dim}

    def reduced(i: int) -> Truncation:
        with naming_block(i):
            return reduce(systems[i], ranks[i])

    at_once = min((workers(ranks[i], systems[i].hsv.device) for i in ranks), default=1)
    truncations = side_by_side(reduced, list(ranks), at_once)
    for layer, truncation in zip((found[i] for i in ranks), truncations, strict=True):
        old = dict(layer.named_parameters(recurse=False))
        layer.assign(truncation.eigenvalues, truncation.B, truncation.C)
        if optimizer is not None:
            new = dict(layer.named_parameters(recurse=False))
            old = {name: p for name, p in old.items() if new[name] is not p}
            carry_moments(optimizer, old, new, truncation, moments)
    return truncations


def _wanted(
    found: list, tau: float | None, state_dims: int | Sequence[int] | Array | None
) -> Sequence[int | None]:
    """The orders asked for, checked; None where only the spectrum can tell."""
    if (tau is None) == (state_dims is None):
        raise ValueError("give exactly one of tau and state_dims")
    sizes = [layer.state_dim for layer in found]
    if state_dims is None:
        return sizes if tau == 0.0 else [None] * len(sizes)
    given: Any = state_dims.tolist() if hasattr(state_dims, "tolist") else state_dims
    ranks = list(given) if isinstance(given, Sequence) else [given] * len(found)
    if len(ranks) != len(found):
        raise ValueError(f"{len(ranks)} state dimensions for {len(found)} blocks")
    for i, (rank, n) in enumerate(zip(ranks, sizes, strict=True)):
        if not is_order(rank, n):
            raise ValueError(f"block {i}: order must be from 1 to {n}, not {rank}")
    return [int(r) for r in ranks]


def _rank(i: int, system: Decomposition, wanted: int | None, tau: float | None) -> int:
    if wanted is not None:
        return wanted
    assert tau is not None
    with naming_block(i):
        return energy_rank(system.hsv, tau)


__all__ = ["TruncationError", "decompositions", "layers", "spectra", "truncate"]
