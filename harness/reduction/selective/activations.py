"""What each state of a selective layer adds to its outputs on calibration data.

A rival to Hankel shares that needs no system: the signal itself drives the states, one at a time.
Pruning states by their activations is common; this score, the root mean square of C_n h_n, is ours.
"""

from __future__ import annotations

from typing import Any

import torch

from ..gramians import UnusableSystem


class Activations:
    """The energies of every state's part of the outputs, (N,) float64; (G, N) of a layer with
    heads, over the channels of each group."""

    def __init__(self, layer: Any):
        self.layer, self.steps, self.channels = layer, 0, 0
        rates, states = layer.rates.detach(), layer.state_dim
        self.groups = (layer.groups,) if rates.dim() == 1 else ()
        self.energies = rates.double().new_zeros(*self.groups, states)

    @torch.no_grad()
    def add(self, u: torch.Tensor) -> None:
        """The steps of a batch, (batch, length, H)."""
        chosen, rates = self.layer.selection(u), self.layer.rates
        for n in range(self.layer.state_dim):
            y = chosen.outputs(rates, torch.tensor([n], device=rates.device)).double().square()
            of_channels = y.flatten(0, 1).sum(0)
            self.energies[..., n] += of_channels.view(*self.groups, -1).sum(-1)
        self.steps, self.channels = self.steps + u.shape[0] * u.shape[1], chosen.x[0, 0].numel()

    def solved(self, how: str) -> int:
        """How many systems are decomposed: none."""
        return 0

    def shares(self, how: str) -> torch.Tensor:
        """Root mean squares over steps, of the sum over channels.

        Raises:
            UnusableSystem: outputs that are not finite.
        """
        found = (self.energies / self.steps).sqrt()
        if not bool(torch.isfinite(found).all()):
            raise UnusableSystem("the outputs over the calibration examples must be finite")
        return found
