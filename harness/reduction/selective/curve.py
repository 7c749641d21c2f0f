"""What a channel's mean decay is at every rate, and which rate has a given mean decay."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.interpolate import PchipInterpolator

RATES = 48  # of a grid; between them the interpolation is right to about 1e-5
BEYOND = 64.0  # times the largest and smallest rate of a layer


class DecaySums:
    """E[exp(-rate dt)] over steps, of D channels and a grid of rates around those of a layer."""

    def __init__(self, rates: torch.Tensor):
        fastest, slowest = -float(rates.min()) * BEYOND, -float(rates.max()) / BEYOND
        grid = torch.linspace(math.log(slowest), math.log(fastest), RATES, dtype=torch.float64)
        self.log_rates, self.steps = grid.to(rates.device), 0
        self.losses = rates.new_zeros(len(rates), RATES, dtype=torch.float64)
        self.decays = torch.zeros_like(self.losses)

    def add(self, dt: torch.Tensor) -> None:
        """Further steps, (steps, D)."""
        for n, rate in enumerate(self.log_rates.exp()):
            exponent = -rate * dt.double()
            self.losses[:, n] -= torch.expm1(exponent).sum(0)
            self.decays[:, n] += exponent.exp().sum(0)
        self.steps += len(dt)

    def curves(self) -> list[Curve]:
        """One of each channel."""
        losses, decays = self.losses / self.steps, self.decays / self.steps
        # -log of the decay, with the digits of whichever of the two is small.
        exponents = torch.where(losses < 0.5, -torch.log1p(-losses), -decays.log())
        log_rates = self.log_rates.cpu().numpy()
        return [Curve(log_rates, one) for one in exponents.log().cpu().numpy()]


class Curve:
    """log(-log E[exp(-rate dt)]) over log(rate) of a channel, monotone, and its inverse."""

    def __init__(self, log_rates: np.ndarray, levels: np.ndarray):
        there = np.isfinite(levels)
        there[1:] &= np.diff(levels) > 0.0  # a decay may underflow at large rates
        levels, log_rates = levels[there], log_rates[there]
        self.lowest, self.highest = (math.exp(-math.exp(levels[i])) for i in (-1, 0))
        self.size = len(there)
        self._log_rate = PchipInterpolator(levels, log_rates)

    def rates(self, decays: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The negative rates (r,) whose mean decays are nearest to these, (r,) float64 of any
        size, and the decays that these have."""
        near = decays.clamp(self.lowest, self.highest)
        levels = (-near.log()).log().clamp(self._log_rate.x[0], self._log_rate.x[-1])
        found = torch.from_numpy(self._log_rate(levels.cpu().numpy())).exp()
        return -found.to(decays), near
