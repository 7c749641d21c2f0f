"""The error of a truncation as the data show it: of a layer's own output, on held-out sequences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from ..ranks import BlockDecomposition
from ..stacks import System
from .calibration import listen
from .least_squares import side_by_side
from .measured import check_channels, stacked
from .states import driven

Outputs = tuple[torch.Tensor, torch.Tensor]


def output_errors(
    model: nn.Module,
    layers: Mapping[int, nn.Module],
    before: Mapping[int, BlockDecomposition],
    after: Mapping[int, Any],
    batches: Iterable[Any],
) -> dict[int, float]:
    """||y - y_r|| / ||y|| of every truncated block over these sequences: y its linear system's
    output Re(C h) on what it hears in the full model, y_r that of the reduced system on the same,
    and of a static gain, if the truncation adds one.

    The static part D u, which stays, is in neither. Before the model changes.
    """
    full = {i: stacked(before[i]) for i in after}
    small = {i: side_by_side(truncation) for i, truncation in after.items()}
    lost, whole = dict.fromkeys(after, 0.0), dict.fromkeys(after, 0.0)

    def compare(i: int, u: torch.Tensor) -> None:
        check_channels(u, full[i][1], "input")
        for y, y_r in _outputs(full[i], small[i], u):
            lost[i] += float((y - y_r).square().sum())
            whole[i] += float(y.square().sum())

    listen(model, {i: layers[i] for i in after}, batches, compare)
    return {i: (lost[i] / whole[i]) ** 0.5 if whole[i] > 0 else 0.0 for i in after}


def _outputs(full: System, small: System, u: torch.Tensor) -> Iterator[Outputs]:
    """(y, y_r), each (steps, batch, S, O) real, in blocks of steps."""
    n = full[0].shape[-1]
    lam = torch.cat([full[0], small[0]], -1)
    into = torch.cat([full[1], small[1]], -2)
    for x in driven(lam, into, u):
        yield read(x[..., :n], full[2]), read(x[..., n:], small[2])


def read(x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """Re(C x), (steps, batch, S, O), of states (steps, batch, S, N), as one real product."""
    pairs = (torch.view_as_real(one.resolve_conj()).flatten(-2) for one in (x, c.conj()))
    return torch.einsum("kbsn,son->kbso", *pairs)
