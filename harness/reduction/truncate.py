"""Truncate the layers of a model in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from .balanced import Truncation, TruncationError, balanced_truncation
from .gramians import energy_rank, hankel_singular_values, spectrum
from .moments import Moments, carry_moments


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


def spectra(model: nn.Module) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """For each layer its Hankel singular values and mode shares, float64, (N,) each."""
    return [spectrum(*layer.system()) for layer in layers(model)]


def truncate(
    model: nn.Module,
    *,
    tau: float | None = None,
    state_dims: int | Sequence[int] | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    moments: Moments = "transport",
) -> list[Truncation]:
    """Balanced truncation of every layer, in place; a block at its rank already stays untouched.

    Args:
        tau: fraction of Hankel energy to discard, per block; or
        state_dims: the order of every block, or one per block.
        optimizer: follows the new parameters; its moments are carried as `moments` says.

    Returns:
        One `Truncation` per block that changed, in order. A failure leaves the model as it was.

    Raises:
        ValueError: not exactly one of tau and state_dims, an order outside 1..N, a reduced
            system without a usable diagonal form (`TruncationError`, names the block).
    """
    found = layers(model)
    ranks = _ranks(found, tau, state_dims)
    changes = []
    for i, (layer, rank) in enumerate(zip(found, ranks, strict=True)):
        if rank == layer.state_dim:
            continue
        try:
            eigenvalues, B, C = layer.system()
            changes.append((layer, balanced_truncation(eigenvalues, B, C, rank)))
        except ValueError as error:
            raise type(error)(f"block {i}: {error}") from error
    for layer, truncation in changes:
        old = dict(layer.named_parameters(recurse=False))
        layer.assign(truncation.eigenvalues, truncation.B, truncation.C)
        if optimizer is not None:
            new = dict(layer.named_parameters(recurse=False))
            old = {name: p for name, p in old.items() if new[name] is not p}
            carry_moments(optimizer, old, new, truncation, moments)
    return [truncation for _, truncation in changes]


def _ranks(found: list, tau: float | None, state_dims: int | Sequence[int] | None) -> list[int]:
    if (tau is None) == (state_dims is None):
        raise ValueError("give exactly one of tau and state_dims")
    if tau is not None:
        if tau == 0.0:
            return [layer.state_dim for layer in found]
        return [energy_rank(hankel_singular_values(*layer.system()), tau) for layer in found]
    assert state_dims is not None
    ranks = [state_dims] * len(found) if isinstance(state_dims, int) else list(state_dims)
    if len(ranks) != len(found):
        raise ValueError(f"{len(ranks)} state dimensions for {len(found)} blocks")
    for i, (rank, layer) in enumerate(zip(ranks, found, strict=True)):
        if isinstance(rank, bool) or int(rank) != rank or not 1 <= rank <= layer.state_dim:
            raise ValueError(f"block {i}: order must be from 1 to {layer.state_dim}, not {rank}")
    return [int(r) for r in ranks]


__all__ = ["TruncationError", "layers", "spectra", "truncate"]
