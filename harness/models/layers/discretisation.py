"""From continuous to discrete time, and back: x' = lambda x + B u, sampled every dt.

Everything is per state and in double precision: a phase that is rounded before it is reduced to one
turn, or a step of a slow state, would err by more than the recurrence does.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch

from ..scans.powers import polar

Discretisation = Literal["zoh", "bilinear"]

NEAREST = torch.finfo(torch.float64).eps / 2 - 1  # to -1, where the logarithm ends
SMALLEST = torch.finfo(torch.float64).tiny  # of an |eigenvalue| in discrete time


class Discrete(NamedTuple):
    """`nu` and `theta`, real, of the discrete eigenvalue exp(-nu + i theta), |theta| <= pi, and the
    complex `scale` of B's rows; all float64 or complex128, differentiable."""

    nu: torch.Tensor
    theta: torch.Tensor
    scale: torch.Tensor

    @property
    def eigenvalues(self) -> torch.Tensor:
        """exp(-nu + i theta), complex128."""
        return polar(torch.exp(-self.nu), self.theta)


def discretised(lam: torch.Tensor, dt: torch.Tensor, how: Discretisation) -> Discrete:
    """The discrete system of continuous eigenvalues lam, complex128, at steps dt, float64.

    `zoh`: exp(lam dt), and B (exp(lam dt) - 1) / lam, exact for inputs that are constant over a
    step. `bilinear`: (1 + w) / (1 - w) with w = lam dt / 2, and B dt / (1 - w).
    """
    z = lam * dt
    if how == "zoh":
        return Discrete(-z.real, _reduced(z.imag), torch.expm1(z) / lam)
    w = z / 2
    # |1 + w|^2 = |1 - w|^2 + 4 Re w, so that slow states keep their digits.
    growth = 4 * w.real / ((1 - w.real).square() + w.imag.square())
    nu = -0.5 * torch.log1p(growth.clamp_min(NEAREST))
    ahead = torch.where(w == -1, 1.0, 1 + w.real)  # an eigenvalue of 0 has no phase
    theta = torch.atan2(w.imag, ahead) + torch.atan2(w.imag, 1 - w.real)
    return Discrete(nu, _reduced(theta), dt / (1 - w))


def continuous(eigenvalues: torch.Tensor, how: Discretisation) -> torch.Tensor:
    """lam dt of discrete eigenvalues, complex128, |lam dt's imaginary part| <= pi under `zoh`.

    An eigenvalue of 0 becomes the smallest magnitude that double precision can write.
    """
    if how == "zoh":
        return torch.complex(eigenvalues.abs().clamp_min(SMALLEST).log(), eigenvalues.angle())
    return 2 * (eigenvalues - 1) / (eigenvalues + 1)


def log_uniform(dt_min: float, dt_max: float, *shape: int) -> torch.Tensor:
    """Logarithms of steps that are log-uniform between dt_min and dt_max, float32."""
    low, high = math.log(dt_min), math.log(dt_max)
    return low + (high - low) * torch.rand(shape)


def _reduced(theta: torch.Tensor) -> torch.Tensor:
    """The phase within half a turn of 0; its gradient is that of theta."""
    turns = torch.round(theta.detach() / (2 * math.pi))
    return theta - 2 * math.pi * turns
