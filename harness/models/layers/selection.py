"""What a selective layer makes of its input."""

from __future__ import annotations

from typing import NamedTuple

import torch

from ..scans.selective import selective_scan
from ..scans.ssd import ssd_scan


class Selection(NamedTuple):
    """The recurrences of D channels and N states at every step, h_t = exp(dt_t A) h_{t-1} +
    dt_t B_t x_t and y_t = <C_t, h_t>, but for A (D, N), which no input changes: x and dt (batch,
    length, D), B and C (batch, length, N)."""

    x: torch.Tensor
    dt: torch.Tensor
    B: torch.Tensor
    C: torch.Tensor

    def outputs(self, rates: torch.Tensor, modes: torch.Tensor) -> torch.Tensor:
        """y (batch, length, D) of these states, (r,) indices, alone."""
        B, C = self.B[..., modes], self.C[..., modes]
        return selective_scan(self.x, self.dt, rates[:, modes], B, C)


class HeadSelection(NamedTuple):
    """The same of heads of P channels, h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_t^T and y_t =
    h_t C_t, but for A (heads,), a scalar each: x (batch, length, heads, P), dt (batch, length,
    heads), and B and C of G groups of heads, (batch, length, G, N)."""

    x: torch.Tensor
    dt: torch.Tensor
    B: torch.Tensor
    C: torch.Tensor

    def outputs(self, rates: torch.Tensor, modes: torch.Tensor) -> torch.Tensor:
        """y (batch, length, heads, P) of these states alone, (r,) indices, or (G, r)."""
        at = modes.expand(*self.B.shape[:3], -1)
        B, C = (one.take_along_dim(at, -1) for one in (self.B, self.C))
        return ssd_scan(self.x, self.dt, rates, B, C)
