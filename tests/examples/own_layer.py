"""A layer of your own: a diagonal state-space layer, computed as a convolution.

harness run own_layer.py
"""

from typing import ClassVar

import torch
from torch import nn

import harness
from harness.models.layers.base import Layer, LayerState, check_state_dim
from harness.suite import (
    Comparison,
    FullSpec,
    InTrainingSpec,
    ModelSpec,
    Suite,
    TaskSpec,
    TrainingSpec,
)


@harness.layer
class Diagonal(Layer):
    """h_k = diag(a) h_{k-1} + B u_k, y_k = Re(C h_k) + D u_k of N complex states, in which
    a = exp(-exp(decay) + i phase). `slowest` is the largest |a| that is drawn."""

    kind = "diagonal"
    ssm_parameters = ("decay", "phase", "B_re", "B_im")  # at the small rate, without weight decay
    # Optimizer moments that follow a truncation.
    transports: ClassVar = {"B": ("B_re", "B_im"), "C": ("C_re", "C_im")}
    restarts = ("decay", "phase")  # those that start again

    def __init__(self, width: int, state_dim: int, slowest: float = 0.999):
        super().__init__()
        magnitude = 0.5 + (slowest - 0.5) * torch.rand(state_dim)
        self.decay = nn.Parameter(torch.log(-torch.log(magnitude)))
        self.phase = nn.Parameter(torch.pi * torch.rand(state_dim))
        self.B_re = nn.Parameter(torch.randn(state_dim, width) / (2 * width) ** 0.5)
        self.B_im = nn.Parameter(torch.randn(state_dim, width) / (2 * width) ** 0.5)
        self.C_re = nn.Parameter(torch.randn(width, state_dim) / state_dim**0.5)
        self.C_im = nn.Parameter(torch.randn(width, state_dim) / state_dim**0.5)
        self.D = nn.Parameter(torch.randn(width))

    @staticmethod
    def layer_flops(spec, state_dim):
        """Of a token: B and C, which are complex, and the recurrence."""
        return 8 * state_dim * spec.width + 8 * state_dim

    @property
    def state_dim(self):
        return len(self.decay)

    def _system(self):
        a = torch.exp(torch.complex(-torch.exp(self.decay), self.phase))
        return a, torch.complex(self.B_re, self.B_im), torch.complex(self.C_re, self.C_im)

    def forward(self, u):
        a, B, C = self._system()
        length = u.shape[1]
        powers = a ** torch.arange(length, device=u.device)[:, None]
        into = torch.fft.fft(u.to(B.dtype) @ B.T, 2 * length, dim=1)
        h = torch.fft.ifft(into * torch.fft.fft(powers, 2 * length, dim=0), dim=1)[:, :length]
        return (h @ C.T).real + self.D * u

    # Recurrent mode: one step at a time, for latency and memory of a deployed model.

    def initial_state(self, sequences, device=None):
        weights = [part.detach().to(device) for part in (*self._system(), self.D)]
        return LayerState((weights[0].new_zeros(sequences, self.state_dim),), weights)

    def step(self, u, state):
        a, B, C, D = state.fixed
        h = a * state.tensors[0] + u.to(B.dtype) @ B.T
        return (h @ C.T).real + D * u, LayerState((h,), state.fixed)

    # Sizes: what a stored model needs.

    def resize(self, state_dim):
        check_state_dim(state_dim)
        a, B, C = self._system()
        self.assign(a.new_empty(state_dim), B.new_empty(state_dim, B.shape[1]),
                    C.new_empty(C.shape[0], state_dim))  # fmt: skip

    # With these two it can be truncated.

    @torch.no_grad()
    def system(self):
        """(eigenvalues (N,), B (N, H), C (H, N)), complex128."""
        a, B, C = (part.to(torch.complex128) for part in self._system())
        return a, B, C

    @torch.no_grad()
    def assign(self, eigenvalues, B, C):
        """Take over a system of any order, in the precision that the parameters have."""
        magnitude = eigenvalues.abs().clamp_min(torch.finfo(torch.float64).tiny)
        values = {
            "decay": torch.log(-torch.log(magnitude)), "phase": eigenvalues.angle(),
            "B_re": B.real, "B_im": B.imag, "C_re": C.real, "C_im": C.imag,
        }  # fmt: skip
        for name, value in values.items():
            trained = getattr(self, name).requires_grad
            new = value.to(self.D.dtype).contiguous()
            setattr(self, name, nn.Parameter(new, requires_grad=trained))


suite = Suite(
    name="own_layer",
    comparisons=(
        Comparison(
            task=TaskSpec(name="digits"),
            model=ModelSpec(kind="diagonal", width=8, state_dim=8, slowest=0.99),
            training=TrainingSpec(steps=40, evaluate_every=20),
            arms={
                "full": FullSpec(),
                "in training": InTrainingSpec(tau=0.2, end=0.5, count=2),
            },
            seeds=(0, 1),
        ),
    ),
)
