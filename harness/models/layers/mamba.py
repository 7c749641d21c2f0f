"""The Mamba layer (Gu and Dao 2023, arXiv 2312.00752), the first version."""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import nn
from torch.nn.functional import linear, pad, silu, softplus

from ..scans import selective
from .base import Choice, Layer, LayerState, check_state_dim
from .basis import FreeBasis
from .convolution import convolved, uniform
from .discretisation import log_uniform
from .selection import MappedSelection, Selection


class Weights(NamedTuple):
    """What a step needs: `rates` (D, N), and the parameters and buffers of these names."""

    rates: torch.Tensor
    in_proj: torch.Tensor
    conv_weight: torch.Tensor
    conv_bias: torch.Tensor
    dt_down: torch.Tensor
    dt_up: torch.Tensor
    dt_bias: torch.Tensor
    B_proj: torch.Tensor
    C_proj: torch.Tensor
    D: torch.Tensor
    out_proj: torch.Tensor
    B_map: torch.Tensor | None
    C_map: torch.Tensor | None

    def convolved(self, x: torch.Tensor) -> torch.Tensor:
        """See `convolution`."""
        return convolved(x, self.conv_weight, self.conv_bias)


class Mamba(FreeBasis, Layer):
    """y = W_out [(scan(x) + D x) silu(z)] with [v; z] = W_in u and x = silu(convolution of v).

    The scan has in each of D = expand x H channels, A = -exp(A_log),

        h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t, with <C_t, h_t> as its output,

    dt_t = softplus(dt_up dt_down x_t + dt_bias) a step for every channel, and B_t = B_proj x_t and
    C_t = C_proj x_t common to all: B by Euler, not by zero-order hold, as in the authors' code.

    Parameters (float32), with N states, R = dt_rank, K = conv: in_proj (2 D, H), conv_weight
    (D, K), conv_bias (D,), dt_down (R, D), B_proj and C_proj (N, D), which are the authors' x_proj
    in three, dt_up (D, R), dt_bias (D,), A_log (D, N), D (D,), out_proj (H, D). Initialised as
    theirs, A_log with log(1..N) in each channel; `residuals` > 0 divides out_proj by its root, as
    theirs in a stack of so many blocks.

    In the basis "free" (see `FreeBasis`), where each channel is a system, a truncation leaves A_log
    (D, r) and the projections as they are; the states of channel d read B_map[d] B_t and are read
    by C_map[d] C_t.
    """

    undecayed_parameters: ClassVar = ("A_log", "D")
    # Where whole states are removed, every moment is that of a parameter that stays; in a free
    # basis A is another, and nothing else.
    transports: ClassVar[dict[str, tuple[str, str]]] = {}
    restarts: ClassVar[tuple[str, ...]] = ("A_log",)
    state_axes: ClassVar = {"A_log": 1, "B_proj": 0, "C_proj": 0}
    removed_rows: ClassVar = ("B_proj", "C_proj")

    def __init__(
        self,
        width: int,
        state_dim: int,
        *,
        expand: int = 2,
        conv: int = 4,
        dt_rank: int | None = None,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_floor: float = 1e-4,
        residuals: int = 0,
        basis: str = "own",
        backend: str = "auto",
    ):
        super().__init__()
        check_state_dim(state_dim)
        self.backend = backend
        channels, rank = expand * width, dt_rank or math.ceil(width / 16)
        dt = log_uniform(dt_min, dt_max, channels).exp().clamp_min(dt_floor)
        values = {
            "in_proj": uniform(2 * channels, width, fan_in=width),
            "conv_weight": uniform(channels, conv, fan_in=conv),
            "conv_bias": uniform(channels, fan_in=conv),
            "dt_down": uniform(rank, channels, fan_in=channels),
            "dt_up": uniform(channels, rank, fan_in=rank),
            "dt_bias": dt + torch.log(-torch.expm1(-dt)),  # softplus of it is dt
            "B_proj": uniform(state_dim, channels, fan_in=channels),
            "C_proj": uniform(state_dim, channels, fan_in=channels),
            "A_log": torch.arange(1.0, state_dim + 1).log().repeat(channels, 1),
            "D": torch.ones(channels),
            "out_proj": uniform(width, channels, fan_in=channels) / math.sqrt(residuals or 1),
        }
        for name, value in values.items():
            self.register_parameter(name, nn.Parameter(value))
        self.begin_basis(basis, channels, state_dim)

    @classmethod
    def of(cls, spec: Any, state_dim: int) -> Self:
        """See `Layer`."""
        return cls(
            spec.width,
            state_dim,
            expand=spec.expand,
            conv=spec.conv,
            dt_rank=spec.rank,
            dt_min=spec.dt_min,
            dt_max=spec.dt_max,
            dt_floor=spec.dt_floor,
            residuals=spec.blocks if spec.block == "authors" else 0,
            basis=spec.basis,
            backend=spec.backend,
        )

    @classmethod
    def backend_of(
        cls, spec: Any, state_dim: int, *, length: int, batch: int, device: torch.device | str
    ) -> Choice:
        """Which of `harness.models.scans.selective`."""
        return selective.choose(spec.backend, device=device)

    @classmethod
    def warm_up(cls) -> None:
        """The compiled loops of a CPU."""
        selective.warm_up()

    @property
    def state_dim(self) -> int:
        """N, the states of each channel."""
        return self.get_parameter("A_log").shape[1]

    @property
    def features(self) -> int:
        """M, the states of a channel but for a change of basis."""
        return len(self.get_parameter("B_proj"))

    @property
    def rates(self) -> torch.Tensor:
        """A (D, N), negative."""
        return -self.get_parameter("A_log").exp()

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """(batch, length, H) real to the same shape, nothing before the first step."""
        weights = self._weights()
        x, z = linear(u, weights.in_proj).chunk(2, -1)
        chosen = _selection(weights, weights.convolved(pad(x, (0, 0, self._memory, 0))))
        y = chosen.scan(weights.rates, self.backend)
        return _read_out(weights, y, chosen.x, z)

    def selection(self, u: torch.Tensor) -> Selection | MappedSelection:
        """What the recurrences are for these inputs (batch, length, H); see `rates` for A."""
        weights = self._weights()
        x, _ = linear(u, weights.in_proj).chunk(2, -1)
        return _selection(weights, weights.convolved(pad(x, (0, 0, self._memory, 0))))

    @torch.no_grad()
    def initial_state(self, sequences: int, device: torch.device | str | None = None) -> LayerState:
        """The last conv - 1 inputs of the convolution, (sequences, conv - 1, D), and the states,
        (sequences, D, N)."""
        held = (None if one is None else one.detach().to(device) for one in self._weights())
        weights = Weights(*held)  # type: ignore[arg-type]
        D, N = weights.rates.shape
        new = weights.rates.new_zeros
        return LayerState((new(sequences, self._memory, D), new(sequences, D, N)), weights)

    def step(self, u: torch.Tensor, state: LayerState) -> tuple[torch.Tensor, LayerState]:
        """By the weights that the layer had when the state was begun."""
        weights: Weights = state.fixed
        past, h = state.tensors
        x, z = linear(u, weights.in_proj).chunk(2, -1)
        past = torch.cat([past, x[:, None]], 1)
        chosen = _selection(weights, weights.convolved(past)[:, 0])
        decay = torch.exp(chosen.dt[..., None] * weights.rates)
        B, C = chosen.of_channels()
        h = decay * h + (chosen.dt * chosen.x)[..., None] * B
        y = (h * C).sum(-1)
        return _read_out(weights, y, chosen.x, z), LayerState((past[:, 1:], h), weights)

    @torch.no_grad()
    def keep_modes(self, modes: torch.Tensor) -> None:
        """Keep only these states of every channel, (r,) indices; what is kept keeps its bits.

        Raises:
            ValueError: a free basis, whose states are no rows of the projections.
        """
        self._check_own()
        for name, axis in self.state_axes.items():
            old = self.get_parameter(name)
            self._replace(name, old.index_select(axis, modes.to(old.device)).contiguous())

    @torch.no_grad()
    def project(
        self, W: torch.Tensor, T: torch.Tensor, orders: torch.Tensor, rates: torch.Tensor
    ) -> None:
        """In a free basis: W (D, r, N) takes the states of each channel to its new ones, T (D, N,
        r) back, of these orders (D,) and rates (D, r), negative. A new `nn.Parameter` replaces
        A_log, frozen where it was."""
        self._project(W, T, orders)
        old = self.get_parameter("A_log")
        self._replace("A_log", (-rates).log().to(old.device, old.dtype).contiguous())

    def resize(self, state_dim: int) -> None:
        """See `Layer`."""
        check_state_dim(state_dim)
        names = self.state_axes if self.basis == "own" else ("A_log",)
        for name, axis in ((name, self.state_axes[name]) for name in names):
            old = self.get_parameter(name)
            shape = list(old.shape)
            shape[axis] = state_dim
            self._replace(name, old.new_empty(shape))
        if self.basis == "free":
            self._resize_basis(state_dim)

    @classmethod
    def state_axis(cls, name: str) -> int:
        """The axis along which a parameter counts states."""
        return cls.state_axes[name]

    @property
    def _memory(self) -> int:
        """Inputs before the present one that the convolution reads."""
        return self.get_parameter("conv_weight").shape[1] - 1

    def _weights(self) -> Weights:
        parameters = {name: self.get_parameter(name) for name in Weights._fields[1:-2]}
        return Weights(self.rates, **parameters, B_map=self.B_map, C_map=self.C_map)

    def _replace(self, name: str, value: torch.Tensor) -> None:
        frozen = not self.get_parameter(name).requires_grad
        setattr(self, name, nn.Parameter(value, requires_grad=not frozen))


def _selection(weights: Weights, x: torch.Tensor) -> Selection | MappedSelection:
    """Of convolved inputs (..., D)."""
    projections = torch.cat([weights.dt_down, weights.B_proj, weights.C_proj])
    sizes = [len(weights.dt_down), len(weights.B_proj), len(weights.C_proj)]
    low, B, C = linear(x, projections).split(sizes, -1)
    dt = softplus(linear(low, weights.dt_up).to(weights.dt_bias.dtype) + weights.dt_bias)
    if weights.B_map is None or weights.C_map is None:
        return Selection(x, dt, B, C)
    return MappedSelection(x, dt, B, C, weights.B_map, weights.C_map)


def _read_out(weights: Weights, y: Any, x: Any, z: torch.Tensor) -> torch.Tensor:
    """(..., H) from the scan's output, its input, and the branch of the gate, (..., D) each."""
    return linear(torch.addcmul(y, weights.D, x) * silu(z), weights.out_proj)
