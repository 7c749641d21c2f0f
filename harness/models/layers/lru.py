"""The LRU layer (Orvieto et al. 2023, arXiv 2303.06349)."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import nn
from torch.nn.functional import linear

from .. import scans
from .base import Choice, Layer, LayerState, check_state_dim

PARAMETERS = ("nu_log", "theta_log", "B_re", "B_im", "C_re", "C_im", "gamma_log")
MAX_PHASE = 6.28  # the official initialisation, just short of a full turn


@dataclass(frozen=True)
class Recurrence:
    """An LRU as a step needs it: `decay` (N,) complex, `into` (H, 2 N) and `out` (2 N, H) real,
    where states are pairs of real and imaginary part, `through` (H,), its D, and `gain` (H, H), its
    static gain transposed, if it has one."""

    decay: torch.Tensor
    into: torch.Tensor
    out: torch.Tensor
    through: torch.Tensor
    gain: torch.Tensor | None = None


class LRU(Layer):
    """h_k = Lambda h_{k-1} + diag(exp(gamma_log)) B u_k, y_k = Re(C h_k) + D u_k.

    Lambda = exp(-exp(nu_log) + i exp(theta_log)). Parameters (float32): nu_log, theta_log,
    gamma_log (N,); B_re, B_im (N, H); C_re, C_im (H, N); D (H,).

    `gain` (H, H) adds gain u_k to the output. It is None until a reduction by singular perturbation
    adds it (`add_gain`). It is not part of `system`: without memory it has no Hankel energy.
    """

    # The published grouping: C and D train at the plain rate, with weight decay.
    ssm_parameters: ClassVar = ("nu_log", "theta_log", "B_re", "B_im", "gamma_log")
    transports: ClassVar = {"B": ("B_re", "B_im"), "C": ("C_re", "C_im")}
    restarts: ClassVar = ("nu_log", "theta_log", "gamma_log")

    gain: nn.Parameter | None

    def __init__(
        self,
        width: int,
        state_dim: int,
        r_min: float = 0.9,
        r_max: float = 0.999,
        backend: str = "auto",
        remember: str = "auto",
    ):
        super().__init__()
        self.backend, self.remember = backend, remember
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

    @classmethod
    def backend_of(
        cls, spec: Any, state_dim: int, *, length: int, batch: int, device: torch.device | str
    ) -> Choice:
        """Which of `harness.models.scans`."""
        return scans.choose(
            spec.backend,
            width=spec.width,
            state_dim=state_dim,
            length=length,
            batch=batch,
            device=device,
        )

    @classmethod
    def warm_up(cls) -> None:
        """The compiled scans of a CPU."""
        scans.warm_up()

    @property
    def state_dim(self) -> int:
        """N, the complex states of this layer."""
        return self.nu_log.shape[0]

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
        y = torch.addcmul(y, self.D, u)
        return y if self.gain is None else y + linear(u, self.gain)

    @torch.no_grad()
    def initial_state(self, sequences: int, device: torch.device | str | None = None) -> LayerState:
        """The system is worked out in double precision, and held in that of the parameters."""
        through = self.D.detach().to(device)
        dtype = through.dtype
        eigenvalues, B, C = (array.to(device) for array in self.system())
        system = Recurrence(
            decay=eigenvalues.to(torch.complex128 if dtype == torch.float64 else torch.complex64),
            into=torch.view_as_real(B.mT.contiguous()).flatten(-2).to(dtype),
            out=torch.view_as_real(C.mH.resolve_conj().contiguous())
            .mT.reshape(-1, len(through))
            .to(dtype),
            through=through,
            gain=None if self.gain is None else self.gain.detach().to(device).mT.contiguous(),
        )
        return LayerState((system.decay.new_zeros(sequences, len(system.decay)),), system)

    def step(self, u: torch.Tensor, state: LayerState) -> tuple[torch.Tensor, LayerState]:
        """By the weights that the layer had when the state was begun."""
        system: Recurrence = state.fixed
        (h,) = state.tensors
        h = system.decay * h + torch.view_as_complex((u @ system.into).unflatten(-1, (-1, 2)))
        y = torch.addcmul(torch.view_as_real(h).flatten(-2) @ system.out, system.through, u)
        if system.gain is not None:
            y = torch.addmm(y, u, system.gain)
        return y, LayerState((h,), system)

    @torch.no_grad()
    def system(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(eigenvalues (N,), B (N, H) with gamma, C (H, N)), complex128, on this device."""
        return self.trainable_system()

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

    @torch.no_grad()
    def keep_modes(self, modes: torch.Tensor) -> None:
        """Keep only these states, (r,) indices; the rest of each parameter keeps its bits."""
        for name in PARAMETERS:
            old = getattr(self, name)
            kept = old.index_select(self.state_axis(name), modes.to(old.device))
            self._replace(name, kept.contiguous())

    @torch.no_grad()
    def add_gain(self, gain: torch.Tensor) -> None:
        """Add Re(gain) u to the output, gain (H, H); an earlier one stays in place and adds."""
        value = torch.real(gain).to(self.D).contiguous()
        if self.gain is None:
            self.expect(["gain"])
            assert self.gain is not None
            self.gain.copy_(value)
        else:
            self.gain.add_(value)

    def expect(self, stored: Collection[str]) -> None:
        """An empty gain where one is stored and there is none, and none where none is stored."""
        if "gain" not in stored:
            self.gain = None
        elif self.gain is None:
            width = len(self.D)
            value = self.D.new_empty(width, width)
            self.gain = nn.Parameter(value, requires_grad=self.D.requires_grad)

    def resize(self, state_dim: int) -> None:
        """Empty parameters for another state dimension, to load stored values into."""
        check_state_dim(state_dim)
        for name in PARAMETERS:
            old = getattr(self, name)
            shape = list(old.shape)
            shape[self.state_axis(name)] = state_dim
            self._replace(name, old.new_empty(shape))

    def _replace(self, name: str, value: torch.Tensor) -> None:
        frozen = not getattr(self, name).requires_grad
        setattr(self, name, nn.Parameter(value, requires_grad=not frozen))

    @staticmethod
    def state_axis(name: str) -> int:
        """The axis along which a parameter counts states."""
        return 1 if name in ("C_re", "C_im") else 0
