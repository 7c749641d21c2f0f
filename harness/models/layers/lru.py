"""The LRU layer (Orvieto et al. 2023, arXiv 2303.06349)."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Self

import torch
from torch import nn

from .. import scans
from .diagonal import DiagonalLayer

PARAMETERS = ("nu_log", "theta_log", "B_re", "B_im", "C_re", "C_im", "gamma_log")
MAX_PHASE = 6.28  # the official initialisation, just short of a full turn


class LRU(DiagonalLayer):
    """h_k = Lambda h_{k-1} + diag(exp(gamma_log)) B u_k, y_k = Re(C h_k) + D u_k.

    Lambda = exp(-exp(nu_log) + i exp(theta_log)). Parameters (float32): nu_log, theta_log,
    gamma_log (N,); B_re, B_im (N, H); C_re, C_im (H, N); D (H,).
    """

    # The published grouping: C and D train at the plain rate, with weight decay.
    ssm_parameters: ClassVar = ("nu_log", "theta_log", "B_re", "B_im", "gamma_log")
    transports: ClassVar = {"B": ("B_re", "B_im"), "C": ("C_re", "C_im")}
    restarts: ClassVar = ("nu_log", "theta_log", "gamma_log")
    state_axes: ClassVar = {name: int(name in ("C_re", "C_im")) for name in PARAMETERS}

    def __init__(
        self,
        width: int,
        state_dim: int,
        r_min: float = 0.9,
        r_max: float = 0.999,
        backend: str = "auto",
        remember: str = "auto",
    ):
        super().__init__(backend, remember)
        u1, u2 = torch.rand(state_dim), torch.rand(state_dim)
        magnitude_squared = u1 * (r_max**2 - r_min**2) + r_min**2
        self.nu_log = nn.Parameter(torch.log(-0.5 * torch.log(magnitude_squared)))
        self.theta_log = nn.Parameter(torch.log(MAX_PHASE * u2))
        self.gamma_log = nn.Parameter(0.5 * torch.log1p(-magnitude_squared))
        self.B_re = nn.Parameter(torch.randn(state_dim, width) / math.sqrt(2 * width))
        self.B_im = nn.Parameter(torch.randn(state_dim, width) / math.sqrt(2 * width))
        self.C_re = nn.Parameter(torch.randn(width, state_dim) / math.sqrt(state_dim))
        self.C_im = nn.Parameter(torch.randn(width, state_dim) / math.sqrt(state_dim))
        self.D = nn.Parameter(torch.randn(width))
        self.register_parameter("gain", None)

    @classmethod
    def of(cls, spec: Any, state_dim: int) -> Self:
        """See `Layer`."""
        return cls(spec.width, state_dim, spec.r_min, spec.r_max, spec.backend, spec.remember)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """(batch, length, H) real to the same shape, h = 0 before the first step."""
        B = torch.exp(self.gamma_log)[:, None] * torch.complex(self.B_re, self.B_im)
        C = torch.complex(self.C_re, self.C_im)
        y = scans.lru_scan(
            torch.exp(self.nu_log),
            torch.exp(self.theta_log),
            B,
            C,
            u,
            backend=self.backend,
            remember=self.remember,
        )
        return self.through(y, u)

    def trainable_system(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """`system`, differentiable in the parameters."""
        nu, theta, gamma = (
            torch.exp(p.double()) for p in (self.nu_log, self.theta_log, self.gamma_log)
        )
        B = gamma[:, None] * torch.complex(self.B_re.double(), self.B_im.double())
        C = torch.complex(self.C_re.double(), self.C_im.double())
        return torch.polar(torch.exp(-nu), theta), B, C

    @torch.no_grad()
    def input_scale(self) -> torch.Tensor:
        """gamma (N,), by which B_re and B_im are multiplied in `system`, float64."""
        return torch.exp(self.gamma_log.double())

    @torch.no_grad()
    def assign(self, eigenvalues: torch.Tensor, B: torch.Tensor, C: torch.Tensor) -> None:
        """Take over a system of any state dimension, with gamma = sqrt(1 - |eigenvalue|^2).

        New `nn.Parameter`s replace the old, frozen where those were; D and gain stay. A
        positive-real eigenvalue has phase 0, whose logarithm does not exist: it becomes a full
        turn, 2 pi, the same eigenvalue. An eigenvalue of 0 becomes the smallest magnitude that
        double precision can write.
        """
        magnitude = eigenvalues.abs().clamp_min(torch.finfo(torch.float64).tiny)
        phase = torch.remainder(eigenvalues.angle(), 2 * math.pi)
        phase = torch.where(phase == 0.0, 2 * math.pi, phase)
        gamma = torch.sqrt((1 - magnitude) * (1 + magnitude))
        raw = B / gamma[:, None]
        values = {
            "nu_log": torch.log(-torch.log(magnitude)),
            "theta_log": torch.log(phase),
            "gamma_log": torch.log(gamma),
            "B_re": raw.real,
            "B_im": raw.imag,
            "C_re": C.real,
            "C_im": C.imag,
        }
        dtype = self.D.dtype
        for name in PARAMETERS:
            self._replace(name, values[name].to(dtype).contiguous())
