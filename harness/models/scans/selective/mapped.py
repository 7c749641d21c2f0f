"""The recurrence of a selective layer whose channels read inputs and outputs through maps.

Each state of each channel is then a recurrence of its own, h_t = exp(dt_t a) h_{t-1} + dt_t x_t
(B_map B_t), for which the scan of one state serves. Channels are taken a part at a time, and
again in the backward pass, so that length x channels x states are never in memory together.
"""

from __future__ import annotations

import torch
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from . import selective_scan

NUMBERS = 2**22  # states, over all steps, of the channels taken at a time


def mapped_scan(
    x: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    B_map: torch.Tensor,
    C_map: torch.Tensor,
    backend: str = "auto",
) -> torch.Tensor:
    """`selective_scan` with B_map_d B_t and C_map_d C_t in the place of B_t and C_t in channel d.

    Args:
        x, dt: (batch, length, D). A: (D, N), negative. B, C: (batch, length, M).
        B_map, C_map: (D, N, M).
    """
    with torch.autocast(x.device.type, enabled=False):  # as the recurrence
        x, dt, B, C, B_map, C_map = (one.to(A.dtype) for one in (x, dt, B, C, B_map, C_map))
        parts = -(-len(x) * x.shape[1] * A.numel() // NUMBERS)
        if parts == 1:
            return _part(x, dt, A, B, C, B_map, C_map, backend)
        along = zip(
            *(one.tensor_split(parts, -1) for one in (x, dt)),
            *(one.tensor_split(parts) for one in (A, B_map, C_map)),
            strict=True,
        )
        found = [
            checkpoint(_part, x, dt, A, B, C, B_map, C_map, backend,
                       use_reentrant=False, preserve_rng_state=False)
            for x, dt, A, B_map, C_map in along
            if len(A)
        ]  # fmt: skip
        return torch.cat(found, -1)


def mapped(features: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    """(..., D, N) from (..., M), by (D, N, M)."""
    return linear(features, by.flatten(0, 1)).unflatten(-1, by.shape[:2])


def _part(
    x: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    B_map: torch.Tensor,
    C_map: torch.Tensor,
    backend: str,
) -> torch.Tensor:
    drive = (x[..., None] * mapped(B, B_map)).flatten(-2)
    steps = dt[..., None].expand(*dt.shape, A.shape[1]).flatten(-2)
    one = B.new_ones(*B.shape[:2], 1)
    h = selective_scan(drive, steps, A.reshape(-1, 1), one, one, backend)
    return (h.unflatten(-1, A.shape) * mapped(C, C_map)).sum(-1)
