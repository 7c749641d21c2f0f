"""The error of removing states, as held-out sequences show it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from ..stacks import StackTruncation
from ..weighting.calibration import listen
from .decomposition import StateSelection
from .stand_ins import rates_of


def selective_errors(
    model: nn.Module,
    layers: Mapping[int, Any],
    after: Mapping[int, StateSelection | StackTruncation],
    batches: Iterable[Any],
) -> dict[int, float]:
    """||y - y_r|| / ||y|| of every block in `after` over these sequences: y what its recurrences
    give, <C, h>, on what it hears in the full model, y_r the same of the reduced ones.

    Neither D x nor the gate, which stay, is in it. Before the model changes.
    """
    lost, whole = dict.fromkeys(after, 0.0), dict.fromkeys(after, 0.0)

    def compare(i: int, u: torch.Tensor) -> None:
        y, miss = _compared(layers[i], u, after[i])
        lost[i] += float(miss.double().square().sum())
        whole[i] += float(y.double().square().sum())

    listen(model, {i: layers[i] for i in after}, batches, compare)
    return {i: (lost[i] / whole[i]) ** 0.5 if whole[i] > 0 else 0.0 for i in after}


def _compared(
    layer: Any, u: torch.Tensor, done: StateSelection | StackTruncation
) -> tuple[torch.Tensor, torch.Tensor]:
    """y, and y - y_r."""
    chosen, rates = layer.selection(u), layer.rates.detach()
    if isinstance(done, StateSelection):
        gone = _others(done.modes, layer.state_dim)
        stays, goes = (chosen.outputs(rates, at).double() for at in (done.modes, gone))
        return stays + goes, goes
    y, new = chosen.scan(rates), rates_of(done)
    reduced = chosen.reduced(done.W.to(rates), done.T.to(rates))
    return y, y - reduced.scan(rates if new is None else new.to(rates))


def _others(modes: torch.Tensor, states: int) -> torch.Tensor:
    """The states that are not among these, (..., r) indices, in the same order."""
    left = torch.ones(*modes.shape[:-1], states, dtype=torch.bool, device=modes.device)
    left = left.scatter(-1, modes, False)
    return left.nonzero()[:, -1].view(*modes.shape[:-1], -1)
