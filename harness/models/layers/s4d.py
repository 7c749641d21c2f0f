"""The S4D layer (Gu, Gupta, Goel and Ré 2022, arXiv 2206.11893)."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, ClassVar, Self

import torch
from torch import nn

from ..scans import channels, warm_up
from .base import Choice, Layer, LayerState, check_state_dim
from .discretisation import Discrete, Discretisation, continuous, discretised, log_uniform
from .hippo import legs_input, normal_legs

OF_SYSTEMS = ("log_A_real", "A_imag", "B_re", "B_im")  # (S, N), shared by channels if S < H
STATES = (*OF_SYSTEMS, "C_re", "C_im")
B_CLIP = 2.0  # of the imaginary parts of B under legs, as in the authors' code


class S4D(Layer):
    """One system a channel, x' = A x + B u with a time step for every channel, y = 2 Re(C x) + D u.

    Each of the N stored states stands for itself and its conjugate: the authors' N is 2 N.
    Parameters (float32): log_A_real, A_imag, B_re, B_im (S, N), A = -exp(log_A_real) + i A_imag;
    C_re, C_im (H, N); log_dt, D (H,). Channel h is of system h mod S. The buffer `orders` (H,)
    int64 says how many states of each channel are there; B is masked beyond them.

    A truncation gives every channel poles of its own: afterwards S = H, which the buffer
    `own_systems` says of stored weights. `system` is a stack of H systems of one input and one
    output, the factor 2 in C.
    """

    conjugates = True
    ssm_parameters: ClassVar = (*OF_SYSTEMS, "log_dt")
    transports: ClassVar = {"B": ("B_re", "B_im"), "C": ("C_re", "C_im")}
    restarts: ClassVar = ("log_A_real", "A_imag")

    log_A_real: nn.Parameter
    A_imag: nn.Parameter
    orders: torch.Tensor
    own_systems: torch.Tensor | None

    def __init__(
        self,
        width: int,
        state_dim: int,
        *,
        n_ssm: int = 1,
        init: str = "legs_1",
        discretisation: Discretisation = "zoh",
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        backend: str = "auto",
    ):
        super().__init__()
        check_systems(width, n_ssm)
        self.n_ssm, self.discretisation, self.backend = n_ssm, discretisation, backend
        log_dt = log_uniform(dt_min, dt_max, width)
        A, B = INITS[init](state_dim)
        A, B = A.expand(n_ssm, -1), B.expand(n_ssm, -1)
        if init in PHASES:  # A_imag dt is given, which takes a step for each system
            A = torch.complex(A.real, A.imag / log_dt[:n_ssm].double().exp()[:, None])
        values = {
            "log_A_real": (-A.real).log(),
            "A_imag": A.imag,
            "B_re": B.real,
            "B_im": B.imag,
            "C_re": math.sqrt(0.5) * torch.randn(width, state_dim),
            "C_im": math.sqrt(0.5) * torch.randn(width, state_dim),
            "log_dt": log_dt,
            "D": torch.randn(width),
        }
        for name, value in values.items():
            self.register_parameter(name, nn.Parameter(value.float().contiguous()))
        self.register_buffer("orders", torch.full((width,), state_dim))
        self.register_buffer("own_systems", None)

    @classmethod
    def of(cls, spec: Any, state_dim: int) -> Self:
        """See `Layer`."""
        return cls(
            spec.width,
            state_dim,
            n_ssm=spec.systems,
            init=spec.init,
            discretisation=spec.discretisation,
            dt_min=spec.dt_min,
            dt_max=spec.dt_max,
            backend=spec.backend,
        )

    @classmethod
    def backend_of(
        cls, spec: Any, state_dim: int, *, length: int, batch: int, device: torch.device | str
    ) -> Choice:
        """Which of `harness.models.scans.channels`."""
        shape = {"width": spec.width, "state_dim": state_dim, "length": length}
        return channels.choose(spec.backend, **shape, device=device)

    @classmethod
    def warm_up(cls) -> None:
        """The compiled loops of a CPU."""
        warm_up()

    @property
    def state_dim(self) -> int:
        """N, the stored states of the largest channel."""
        return self.get_parameter("C_re").shape[1]

    @property
    def width(self) -> int:
        """H, the channels."""
        return len(self.orders)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """(batch, length, H) real to the same shape, x = 0 before the first step."""
        discrete, B, C = self._parts()
        D = self.get_parameter("D")
        dtype = torch.complex128 if D.dtype == torch.float64 else torch.complex64
        y = channels.channel_scan(
            discrete.nu, discrete.theta, B.to(dtype), C.to(dtype), u, self.backend
        )
        return torch.addcmul(y, D, u)

    @torch.no_grad()
    def initial_state(self, sequences: int, device: torch.device | str | None = None) -> LayerState:
        """The systems are worked out in double precision, and held in that of the parameters."""
        D = self.get_parameter("D").detach().to(device)
        dtype = torch.complex128 if D.dtype == torch.float64 else torch.complex64
        discrete, B, C = self._parts()
        parts = (discrete.eigenvalues, B, C)
        lam, B, C = (part.to(device=D.device, dtype=dtype) for part in parts)
        return LayerState((lam.new_zeros(sequences, *lam.shape),), (lam, B, C, D))

    def step(self, u: torch.Tensor, state: LayerState) -> tuple[torch.Tensor, LayerState]:
        """By the weights that the layer had when the state was begun."""
        lam, B, C, D = state.fixed
        h = lam * state.tensors[0] + B * u[..., None]
        return (C * h).sum(-1).real + D * u, LayerState((h,), state.fixed)

    @torch.no_grad()
    def system(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(eigenvalues (H, N), B (H, N, 1), C (H, 1, N)), complex128, on this device."""
        return self.trainable_system()

    def trainable_system(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """`system`, differentiable in the parameters."""
        discrete, B, C = self._parts()
        return discrete.eigenvalues, B[:, :, None], C[:, None, :]

    @torch.no_grad()
    def input_scale(self) -> torch.Tensor:
        """(H, N) complex128, by which discretisation multiplies B in `system`."""
        return self._discrete().scale

    @torch.no_grad()
    def assign(
        self, eigenvalues: torch.Tensor, B: torch.Tensor, C: torch.Tensor, orders: torch.Tensor
    ) -> None:
        """Take over a stack of systems, (H, N), (H, N, 1), (H, 1, N), of these orders (H,).

        The steps stay, which determines A. New `nn.Parameter`s replace the old, frozen where those
        were; D stays.
        """
        there = torch.arange(eigenvalues.shape[1]) < orders[:, None]
        lam = torch.where(there.to(eigenvalues.device), eigenvalues, 0.5)  # any stable one
        A = (
            continuous(lam, self.discretisation)
            / self.get_parameter("log_dt").double().exp()[:, None]
        )
        self._replace("log_A_real", (-A.real).log())
        self._replace("A_imag", A.imag)
        self._own(orders)
        raw = B[:, :, 0] / self.input_scale()
        for name, part in (("B", raw), ("C", C[:, 0] / 2)):
            self._replace(f"{name}_re", part.real)
            self._replace(f"{name}_im", part.imag)

    @torch.no_grad()
    def keep_modes(self, modes: torch.Tensor, orders: torch.Tensor) -> None:
        """Keep only these states, (H, r) indices; what is kept keeps its bits."""
        at = modes.to(self.orders.device)
        for name in STATES:
            self._replace(name, self._of_channels(self.get_parameter(name)).take_along_dim(at, 1))
        self._own(orders)

    def expect(self, stored: Collection[str]) -> None:
        """Rows of A and B for every channel where `own_systems` is stored, or for the n_ssm."""
        self.own_systems = self.orders.new_empty(()) if "own_systems" in stored else None
        for name in OF_SYSTEMS:
            rows = self.n_ssm if self.own_systems is None else self.width
            old = self.get_parameter(name)
            if len(old) != rows:
                self._replace(name, old.new_empty(rows, self.state_dim))

    def resize(self, state_dim: int) -> None:
        """See `Layer`."""
        check_state_dim(state_dim)
        for name in STATES:
            old = self.get_parameter(name)
            self._replace(name, old.new_empty(len(old), state_dim))
        self.orders = torch.full_like(self.orders, state_dim)

    @staticmethod
    def state_axis(name: str) -> int:
        """The axis along which a parameter counts states."""
        return 1

    def _own(self, orders: torch.Tensor) -> None:
        self.orders = orders.to(self.orders.device, copy=True)
        self.own_systems = self.orders.new_ones(())

    def _of_channels(self, value: torch.Tensor) -> torch.Tensor:
        """(S, N) to (H, N): channel h is of system h mod S."""
        return value if len(value) == self.width else value.repeat(self.width // len(value), 1)

    def _discrete(self) -> Discrete:
        real = -self.log_A_real.double().exp()
        A = self._of_channels(torch.complex(real, self.A_imag.double()))
        dt = self.get_parameter("log_dt").double().exp()[:, None].expand_as(A)
        return discretised(A, dt, self.discretisation)

    def _parts(self) -> tuple[Discrete, torch.Tensor, torch.Tensor]:
        """The discrete poles, B with its scale and without padding, and 2 C; (H, N) complex128."""
        discrete = self._discrete()
        places = torch.arange(self.state_dim, device=self.orders.device)
        there = places < self.orders[:, None]
        B = self._of_channels(self._complex("B")) * discrete.scale
        return discrete, torch.where(there, B, 0.0), 2 * self._complex("C")

    def _complex(self, name: str) -> torch.Tensor:
        re, im = (self.get_parameter(f"{name}_{part}").double() for part in ("re", "im"))
        return torch.complex(re, im)

    def _replace(self, name: str, value: torch.Tensor) -> None:
        old = self.get_parameter(name)
        made = value.to(old.dtype).contiguous()
        setattr(self, name, nn.Parameter(made, requires_grad=old.requires_grad))


def check_systems(width: int, n_ssm: int) -> None:
    """Raise `ValueError` unless the systems can be shared out evenly among the channels."""
    if width % n_ssm:
        raise ValueError(f"width {width} is not divisible by n_ssm {n_ssm}")


def _legs(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The normal part of HiPPO-LegS of size 2 n, and its input vector in the same basis."""
    A, V = normal_legs(2 * n)
    B = V.mH @ legs_input(2 * n).to(V.dtype)
    clipped = torch.complex(B.real, B.imag.clamp(-B_CLIP, B_CLIP))
    return A[:n], clipped[:n]


def _poles(imaginary: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """-1/2 + i imaginary, and a B of ones."""
    A = torch.complex(torch.full_like(imaginary, -0.5), imaginary)
    return A, torch.ones_like(A)


def _lin(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    return _poles(math.pi * torch.arange(n, dtype=torch.float64))


def _inv(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    k = torch.arange(n, dtype=torch.float64)
    return _poles(2 * n / math.pi * (2 * n / (2 * k + 1) - 1))


def _dfout(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Phases (of one step) that divide the circle evenly, with those of the conjugates."""
    return _poles(math.pi * (torch.arange(n, dtype=torch.float64) + 0.5) / n)


# By name and version, since a name must go on meaning the same.
INITS = {"legs_1": _legs, "lin_1": _lin, "inv_1": _inv, "dfout_1": _dfout}
PHASES = ("dfout_1",)  # where the imaginary part is that of A dt
