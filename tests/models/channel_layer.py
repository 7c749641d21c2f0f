"""A layer of the tests: every channel a system of its own, with an order of its own.

What S4D and Mamba are, without their initialisation: H systems of one input and output, diagonal,
of complex states, padded to the largest order.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import nn

from harness.models.layers.base import Layer, LayerState, check_state_dim
from harness.models.specs import LRUSpec

PARAMETERS = ("nu_log", "theta_log", "gamma_log", "B_re", "B_im", "C_re", "C_im")


class ChannelLayer(Layer):
    """h_k = lambda h_{k-1} + exp(gamma_log) B u_k, y_k = Re(sum C h_k) + D u_k in every channel.

    lambda = exp(-exp(nu_log) + i theta). All parameters (H, N) float32, D (H,); the buffer `orders`
    (H,) int64 says how many states of each channel are there. B is masked beyond them, so that the
    padding adds nothing to outputs or gradients.
    """

    ssm_parameters: ClassVar = ("nu_log", "theta_log", "gamma_log", "B_re", "B_im")
    transports: ClassVar = {"B": ("B_re", "B_im"), "C": ("C_re", "C_im")}
    restarts: ClassVar = ("nu_log", "theta_log", "gamma_log")

    orders: torch.Tensor

    def __init__(self, width: int, state_dim: int, r_min: float = 0.5, r_max: float = 0.95):
        super().__init__()
        shape = (width, state_dim)
        radius = r_min + (r_max - r_min) * torch.rand(shape)
        self.nu_log = nn.Parameter(torch.log(-torch.log(radius)))
        self.theta_log = nn.Parameter(torch.log(6.28 * torch.rand(shape)))
        self.gamma_log = nn.Parameter(0.5 * torch.log1p(-radius.square()))
        for name in PARAMETERS[3:]:
            setattr(self, name, nn.Parameter(torch.randn(shape) / math.sqrt(2 * state_dim)))
        self.D = nn.Parameter(torch.randn(width))
        self.register_buffer("orders", torch.full((width,), state_dim))

    @property
    def state_dim(self) -> int:
        return self.nu_log.shape[1]

    @property
    def mask(self) -> torch.Tensor:
        """(H, N), 1 where a state is, 0 in the padding."""
        places = torch.arange(self.state_dim, device=self.orders.device)
        return (places < self.orders[:, None]).to(self.D.dtype)

    def parts(self, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(lambda, B with gamma and without padding, C), (H, N) complex, in this real precision."""
        nu, theta, gamma, b_re, b_im, c_re, c_im = (getattr(self, n).to(dtype) for n in PARAMETERS)
        B = torch.complex(b_re, b_im) * (gamma.exp() * self.mask.to(dtype))
        return torch.polar(torch.exp(-nu.exp()), theta.exp()), B, torch.complex(c_re, c_im)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """(batch, length, H) real to the same shape, as a convolution with the impulse response."""
        length = u.shape[1]
        lam, B, C = self.parts(self.D.dtype)
        powers = lam[..., None] ** torch.arange(length, device=u.device)
        kernel = (C * B)[..., None].mul(powers).sum(1).real.mT
        size = 2 * length
        y = torch.fft.irfft(
            torch.fft.rfft(u, size, dim=1) * torch.fft.rfft(kernel, size, dim=0), size, dim=1
        )
        return y[:, :length] + self.D * u

    @torch.no_grad()
    def initial_state(self, sequences: int, device: torch.device | str | None = None) -> LayerState:
        """No state yet, and the system as it is now."""
        fixed = tuple(part.to(device) for part in (*self.parts(self.D.dtype), self.D))
        return LayerState((fixed[0].new_zeros(sequences, *fixed[0].shape),), fixed)

    def step(self, u: torch.Tensor, state: LayerState) -> tuple[torch.Tensor, LayerState]:
        lam, B, C, D = state.fixed
        h = lam * state.tensors[0] + B * u[..., None]
        return (C * h).sum(-1).real + D * u, LayerState((h,), state.fixed)

    @torch.no_grad()
    def system(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(H, N), (H, N, 1), (H, 1, N), complex128."""
        return self.trainable_system()

    def trainable_system(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        lam, B, C = self.parts(torch.float64)
        return lam, B[:, :, None], C[:, None, :]

    @torch.no_grad()
    def input_scale(self) -> torch.Tensor:
        return self.gamma_log.double().exp()

    @torch.no_grad()
    def assign(
        self, eigenvalues: torch.Tensor, B: torch.Tensor, C: torch.Tensor, orders: torch.Tensor
    ) -> None:
        there = torch.arange(eigenvalues.shape[1]) < orders[:, None]
        lam = torch.where(there.to(eigenvalues.device), eigenvalues, 0.5)  # any stable one
        magnitude = lam.abs().clamp_min(torch.finfo(torch.float64).tiny)
        phase = torch.remainder(lam.angle(), 2 * math.pi)
        phase = torch.where(phase == 0.0, 2 * math.pi, phase)
        gamma = torch.sqrt((1 - magnitude) * (1 + magnitude))
        raw = B[:, :, 0] / gamma
        values = (
            torch.log(-torch.log(magnitude)),
            phase.log(),
            gamma.log(),
            raw.real,
            raw.imag,
            C[:, 0].real,
            C[:, 0].imag,
        )
        for name, value in zip(PARAMETERS, values, strict=True):
            setattr(self, name, nn.Parameter(value.to(self.D.dtype).contiguous()))
        self.orders = orders.to(self.D.device, copy=True)

    @torch.no_grad()
    def keep_modes(self, modes: torch.Tensor, orders: torch.Tensor) -> None:
        for name in PARAMETERS:
            kept = getattr(self, name).take_along_dim(modes.to(self.D.device), 1)
            setattr(self, name, nn.Parameter(kept.contiguous()))
        self.orders = orders.to(self.D.device, copy=True)

    def resize(self, state_dim: int) -> None:
        check_state_dim(state_dim)
        for name in PARAMETERS:
            setattr(self, name, nn.Parameter(self.D.new_empty(len(self.D), state_dim)))

    @staticmethod
    def state_axis(name: str) -> int:
        return 1


class Channels(LRUSpec):
    """An LRU's spec with channels in the place of its layers, to stand in for it in tests."""

    implementation: ClassVar[str] = "tests.models.channel_layer:ChannelLayer"

    def layer_flops(self, state_dim: int) -> int:
        """16 N H: a complex product each for decay, B, and half of one for C."""
        return 16 * state_dim * self.width

    def layer_parameters(self, state_dim: int) -> int:
        return 7 * state_dim * self.width + self.width


STANDS_IN = ("implementation", "layer_flops", "layer_parameters", "capabilities")


def stand_in(patch) -> None:
    """Let specs of kind `lru` be of channels, by a `MonkeyPatch`."""
    for name in STANDS_IN:
        patch.setattr(LRUSpec, name, vars(Channels).get(name, getattr(Channels, name)))
