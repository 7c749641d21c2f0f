"""Systems that stand in for a selective layer on calibration data, and their Hankel shares.

At every step a channel d has the decays exp(dt_d A_d), the input dt_d B and the output C. Over all
steps of the calibration sequences,

- `mean_modes` takes the means of the three, after discretisation: the mean system of arXiv
  2510.02823, appendix E, with P_ij = b_i b_j / (1 - l_i l_j) and Q_ij = c_i c_j / (1 - l_i l_j);
- `second_moment` takes E[dt^2] E[B B^T] and E[C C^T] in place of b b^T and c c^T, for projections
  whose mean is near zero. That steps and B are uncorrelated is assumed: it weighs channels against
  each other, no more.

What a state is worth is its Hankel share, the diagonal entry of (P Q)^(1/2), summed over channels.
That whole states are removed, from A and from the projections to B and C, is ours: the paper
projects B and C of each channel on balanced states, and does not say what becomes of A.
"""

from __future__ import annotations

from typing import Any

import torch

from .shares import hankel_shares


class Sums:
    """What a layer's recurrences are, summed over steps in double precision: (D, N) of 1 - decays;
    of M features, which are the states of a layer in its own basis, (D, M) of inputs, (M,) of
    outputs, and (M, M) of their products; (D,) of squared steps."""

    def __init__(self, layer: Any):
        self.layer, self.steps = layer, 0
        channels, n = layer.rates.shape
        m = getattr(layer, "features", n)
        self.channels = channels
        new = layer.rates.detach().double().new_zeros
        self.losses, self.inputs, self.outputs = new(channels, n), new(channels, m), new(m)
        self.BB, self.CC, self.squares = new(m, m), new(m, m), new(channels)

    @torch.no_grad()
    def add(self, u: torch.Tensor) -> None:
        """The steps of a batch, (batch, length, H)."""
        chosen, rates = self.layer.selection(u), self.layer.rates
        self._take(*(one.flatten(0, 1).to(rates.dtype) for one in (chosen.dt, chosen.B, chosen.C)))

    def _take(self, dt: torch.Tensor, B: torch.Tensor, C: torch.Tensor) -> None:
        """Steps (steps, D), and B and C (steps, M)."""
        rates, room = self.layer.rates, torch.empty_like(dt)  # memory anew each time costs more
        for n, rate in enumerate(rates.mT.contiguous()):
            torch.mul(dt, rate, out=room)
            self.losses[:, n] -= room.expm1_().sum(0)
        self.inputs += dt.mT @ B
        self.outputs += C.sum(0, dtype=torch.float64)
        self.BB += B.mT @ B
        self.CC += C.mT @ C
        self.squares += dt.square().sum(0, dtype=torch.float64)
        self.steps += len(dt)

    def solved(self, how: str) -> int:
        """How many systems are decomposed: one a channel."""
        return self.channels

    def shares(self, how: str) -> torch.Tensor:
        """Those of all channels together, (N,) float64; see `hankel_shares`."""
        return hankel_shares(*self.system(how)).sum(0)

    def system(self, how: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What `hankel_shares` takes: b (D, N) and c (1, N), or what stands for b b^T (D, N, N) and
        c c^T (1, N, N)."""
        losses = self.losses / self.steps
        if how == "mean_modes":
            return losses, self.inputs / self.steps, self.outputs[None] / self.steps
        squares = self.squares[:, None, None] / self.steps
        return losses, squares * (self.BB / self.steps), self.CC[None] / self.steps
