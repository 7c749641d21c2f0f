"""What a selective layer makes of its input."""

from __future__ import annotations

from typing import NamedTuple

import torch

from ..scans.selective import selective_scan
from ..scans.selective.mapped import mapped, mapped_scan
from ..scans.ssd import ssd_scan


class Selection(NamedTuple):
    """The recurrences of D channels and N states at every step, h_t = exp(dt_t A) h_{t-1} +
    dt_t B_t x_t and y_t = <C_t, h_t>, but for A (D, N), which no input changes: x and dt (batch,
    length, D), B and C (batch, length, N)."""

    x: torch.Tensor
    dt: torch.Tensor
    B: torch.Tensor
    C: torch.Tensor

    def of_channels(self) -> tuple[torch.Tensor, torch.Tensor]:
        """B and C as they stand beside the channels, (..., 1, N)."""
        return self.B[..., None, :], self.C[..., None, :]

    def scan(self, rates: torch.Tensor, backend: str = "auto") -> torch.Tensor:
        """y (batch, length, D)."""
        return selective_scan(self.x, self.dt, rates, self.B, self.C, backend)

    def reduced(self, W: torch.Tensor, T: torch.Tensor) -> MappedSelection:
        """The same of other states, W (D, r, N) times these and T (D, N, r) times those."""
        return MappedSelection(*self, W, T.mT)

    def outputs(self, rates: torch.Tensor, modes: torch.Tensor) -> torch.Tensor:
        """y (batch, length, D) of these states, (r,) indices, alone."""
        B, C = self.B[..., modes], self.C[..., modes]
        return selective_scan(self.x, self.dt, rates[:, modes], B, C)


class MappedSelection(NamedTuple):
    """The same, of states that read B_map B_t and are read by C_map C_t: B and C (batch, length, M)
    of features, B_map and C_map (D, N, M)."""

    x: torch.Tensor
    dt: torch.Tensor
    B: torch.Tensor
    C: torch.Tensor
    B_map: torch.Tensor
    C_map: torch.Tensor

    def of_channels(self) -> tuple[torch.Tensor, torch.Tensor]:
        """B and C of each channel, (..., D, N)."""
        return mapped(self.B, self.B_map), mapped(self.C, self.C_map)

    def scan(self, rates: torch.Tensor, backend: str = "auto") -> torch.Tensor:
        """y (batch, length, D)."""
        return mapped_scan(*self[:2], rates, *self[2:], backend)

    def reduced(self, W: torch.Tensor, T: torch.Tensor) -> MappedSelection:
        """As of `Selection`."""
        return MappedSelection(*self[:4], W @ self.B_map.to(W), T.mT @ self.C_map.to(T))


class HeadSelection(NamedTuple):
    """The same of heads of P channels, h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_t^T and y_t =
    h_t C_t, but for A (heads,), a scalar each: x (batch, length, heads, P), dt (batch, length,
    heads), and B and C of G groups of heads, (batch, length, G, N)."""

    x: torch.Tensor
    dt: torch.Tensor
    B: torch.Tensor
    C: torch.Tensor

    def scan(self, rates: torch.Tensor, backend: str = "auto") -> torch.Tensor:
        """y (batch, length, heads, P)."""
        return ssd_scan(self.x, self.dt, rates, self.B, self.C, backend)

    def reduced(self, W: torch.Tensor, T: torch.Tensor) -> HeadSelection:
        """The same of other states, W (G, r, N) times these and T (G, N, r) times those."""
        B, C = (torch.einsum("...gm,gnm->...gn", one, by.to(one))
                for one, by in ((self.B, W), (self.C, T.mT)))  # fmt: skip
        return self._replace(B=B, C=C)

    def outputs(self, rates: torch.Tensor, modes: torch.Tensor) -> torch.Tensor:
        """y (batch, length, heads, P) of these states alone, (r,) indices, or (G, r)."""
        at = modes.expand(*self.B.shape[:3], -1)
        B, C = (one.take_along_dim(at, -1) for one in (self.B, self.C))
        return ssd_scan(self.x, self.dt, rates, B, C)
