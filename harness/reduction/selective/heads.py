"""Hankel shares of the states of Mamba-2, where the A of each head is a number.

With l = E[exp(dt A)] of a head the mean system is l I, b = E[dt B], c = E[C], so that (P Q)^(1/2) =
+-b c^T / (1 - l^2): one Hankel singular value, |<b, c>| / (1 - l^2), in whatever basis, and shares
+-b_i c_i / (1 - l^2), the sign that of <b, c>. Second moments have as many as E[B B^T] E[C C^T] has
eigenvalues, and their shares are the same in all heads of a group but for a factor.
"""

from __future__ import annotations

from typing import Any

import torch

from ..gramians import UnusableSystem
from .shares import hankel_shares


class HeadSums:
    """What a layer's heads are, summed over steps in double precision: of heads, (heads,), 1 -
    decays and squared steps, and inputs (heads, N); of groups outputs (G, N), and the products of
    inputs and of outputs, (G, N, N)."""

    def __init__(self, layer: Any):
        self.layer, self.steps, self.size = layer, 0, 0
        heads, G, N = len(layer.rates), layer.groups, layer.state_dim
        new = layer.rates.detach().double().new_zeros
        self.losses, self.squares, self.inputs = new(heads), new(heads), new(heads, N)
        self.outputs, self.BB, self.CC = new(G, N), new(G, N, N), new(G, N, N)

    @torch.no_grad()
    def add(self, u: torch.Tensor) -> None:
        """The steps of a batch, (batch, length, H)."""
        x, dt, B, C = self.layer.selection(u)
        dt, B, C = (one.flatten(0, 1).double() for one in (dt, B, C))
        B, C = B.transpose(0, 1), C.transpose(0, 1)  # (G, steps, N)
        of_group = dt.T.unflatten(0, (len(B), -1))  # (G, heads of it, steps)
        self.losses -= torch.expm1(dt * self.layer.rates.double()).sum(0)
        self.squares += dt.square().sum(0)
        self.inputs += (of_group @ B).flatten(0, 1)
        self.outputs += C.sum(1)
        self.BB += B.mT @ B
        self.CC += C.mT @ C
        self.steps, self.size = self.steps + len(dt), x.shape[-1]

    @property
    def channels(self) -> int:
        """D, of all heads."""
        return len(self.layer.rates) * self.size

    def solved(self, how: str) -> int:
        """How many systems are decomposed: one a group, or none where the root is known."""
        return len(self.outputs) if how == "second_moment" else 0

    def shares(self, how: str) -> torch.Tensor:
        """Those of all channels together, (G, N) float64.

        Raises:
            UnusableSystem: means that are not finite, or a head that never decays.
        """
        gaps, roots = self._gaps(), self.roots()
        inputs, outputs = self.inputs / self.steps, self.outputs / self.steps
        BB, CC = self.BB / self.steps, self.CC / self.steps
        if how == "mean_modes":
            products = inputs.view(len(outputs), -1, outputs.shape[-1]) * outputs[:, None]
            signs = products.sum(-1, keepdim=True).sign()
            return self.size * (signs * products / gaps).sum(1)
        one = torch.ones_like(outputs[:1])  # a loss of 1: the Gramians are the moments themselves
        of_group = [hankel_shares(one, B[None], C[None])[0] for B, C in zip(BB, CC, strict=True)]
        return self.size * roots.sum(1) * torch.stack(of_group)

    def roots(self) -> torch.Tensor:
        """What the Hankel singular values of each head, (G, heads of it, 1), are of the roots of
        its group's E[B B^T] E[C C^T]; raises as `shares`."""
        squares = self.squares / self.steps
        gaps = self._gaps()
        return squares.view(gaps.shape).sqrt() / gaps

    def _gaps(self) -> torch.Tensor:
        """1 - l^2, (G, heads of it, 1)."""
        losses = self.losses / self.steps
        if not all(bool(torch.isfinite(one).all()) for one in (losses, self.BB, self.CC)):
            raise UnusableSystem("the means over the calibration examples must be finite")
        if float(losses.min()) <= 0.0:
            raise UnusableSystem("a head never decays on the calibration examples: steps are zero")
        return (losses * (2 - losses)).view(len(self.outputs), -1, 1)
