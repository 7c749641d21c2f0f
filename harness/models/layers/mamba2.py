"""The Mamba-2 layer (Dao and Gu 2024, arXiv 2405.21060)."""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import nn
from torch.nn.functional import linear, pad, rms_norm, silu, softplus

from ..norm import EPSILON
from ..scans import ssd
from .base import Choice, Layer, LayerState, check_state_dim
from .basis import FreeBasis
from .convolution import convolved, uniform
from .discretisation import log_uniform
from .selection import HeadSelection


class Weights(NamedTuple):
    """What a step needs: rates (heads,); as one matrix what multiplies the input, (2 D + 2 G N +
    heads, H), of z, x, B, C and dt; the convolution of x, B and C, (D + 2 G N, K); the rest by the
    names of the parameters and buffers."""

    rates: torch.Tensor
    projection: torch.Tensor
    conv: torch.Tensor
    conv_bias: torch.Tensor
    dt_bias: torch.Tensor
    D: torch.Tensor
    norm_weight: torch.Tensor
    out_proj: torch.Tensor
    B_map: torch.Tensor | None
    C_map: torch.Tensor | None


class Mamba2(FreeBasis, Layer):
    """y = W_out norm((scan(x) + D x) silu(z)), with z, x, B, C and dt projections of the input u,
    of which x, B and C are convolved, channel by channel, and go through silu.

    The scan has in each head, P of the D = expand x H channels, a state h (P, N),

        h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_t^T, with h_t C_t as its output,

    A = -exp(A_log) and dt_t = softplus(dt_proj u_t + dt_bias) a number for every head, and B_t and
    C_t common to the heads of each of G groups. The norm divides each group's channels by their
    root mean square.

    Parameters (float32), with N states, K = conv: in_proj (2 D, H) of z and x, B_proj and C_proj
    (G, N, H), dt_proj (heads, H), which together are the authors' in_proj; x_conv (D, K), B_conv
    and C_conv (G, N, K), their conv1d, with x_conv_bias (D,), B_conv_bias and C_conv_bias (G, N);
    dt_bias, A_log and D (heads,), norm_weight (D,), out_proj (H, D). Initialised as theirs;
    `residuals` > 0 divides out_proj by its root, as theirs in a stack of so many blocks.

    In the basis "free" (see `FreeBasis`) each group is a system. Since A is a number, any change of
    basis behind convolution and activation is exact, and no parameter changes with a truncation.
    """

    undecayed_parameters: ClassVar = ("A_log", "D", "dt_bias", "norm_weight")
    # Whole states are removed and no basis changes: every moment is that of a parameter that stays.
    transports: ClassVar[dict[str, tuple[str, str]]] = {}
    restarts: ClassVar[tuple[str, ...]] = ()
    # Parameters of every state, along axis 1.
    of_states: ClassVar = ("B_proj", "C_proj", "B_conv", "C_conv", "B_conv_bias", "C_conv_bias")
    removed_rows: ClassVar = of_states

    def __init__(
        self,
        width: int,
        state_dim: int,
        *,
        expand: int = 2,
        head_dim: int = 64,
        groups: int = 1,
        conv: int = 4,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_floor: float = 1e-4,
        residuals: int = 0,
        basis: str = "own",
        backend: str = "auto",
    ):
        super().__init__()
        check_state_dim(state_dim)
        self.backend, self.head_dim, self.groups = backend, head_dim, groups
        channels = expand * width
        heads, state = channels // head_dim, (groups, state_dim)
        dt = log_uniform(dt_min, dt_max, heads).exp().clamp_min(dt_floor)
        values = {
            "in_proj": uniform(2 * channels, width, fan_in=width),
            "B_proj": uniform(*state, width, fan_in=width),
            "C_proj": uniform(*state, width, fan_in=width),
            "dt_proj": uniform(heads, width, fan_in=width),
            "x_conv": uniform(channels, conv, fan_in=conv),
            "B_conv": uniform(*state, conv, fan_in=conv),
            "C_conv": uniform(*state, conv, fan_in=conv),
            "x_conv_bias": uniform(channels, fan_in=conv),
            "B_conv_bias": uniform(*state, fan_in=conv),
            "C_conv_bias": uniform(*state, fan_in=conv),
            "dt_bias": dt + torch.log(-torch.expm1(-dt)),  # softplus of it is dt
            "A_log": torch.empty(heads).uniform_(1.0, 16.0).log(),
            "D": torch.ones(heads),
            "norm_weight": torch.ones(channels),
            "out_proj": uniform(width, channels, fan_in=channels) / math.sqrt(residuals or 1),
        }
        for name, value in values.items():
            self.register_parameter(name, nn.Parameter(value))
        self.begin_basis(basis, groups, state_dim)

    @classmethod
    def of(cls, spec: Any, state_dim: int) -> Self:
        """See `Layer`."""
        return cls(
            spec.width,
            state_dim,
            expand=spec.expand,
            head_dim=spec.channels_a_head,
            groups=spec.groups,
            conv=spec.conv,
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
        """Which of `harness.models.scans.ssd`."""
        return ssd.choose(spec.backend)

    @property
    def state_dim(self) -> int:
        """N, the states of each channel."""
        return self.features if self.B_map is None else self.B_map.shape[1]

    @property
    def features(self) -> int:
        """M, the states of a channel but for a change of basis."""
        return self.get_parameter("B_proj").shape[1]

    @property
    def rates(self) -> torch.Tensor:
        """A (heads,), negative."""
        return -self.get_parameter("A_log").exp()

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """(batch, length, H) real to the same shape, nothing before the first step."""
        weights = self._weights()
        z, xBC, dt = self._projected(weights, u)
        chosen = self._selection(weights, pad(xBC, (0, 0, self._memory, 0)), dt)
        y = chosen.scan(weights.rates, self.backend)
        return self._read_out(weights, y, chosen.x, z)

    def selection(self, u: torch.Tensor) -> HeadSelection:
        """What the recurrences are for these inputs (batch, length, H); see `rates` for A."""
        weights = self._weights()
        _, xBC, dt = self._projected(weights, u)
        return self._selection(weights, pad(xBC, (0, 0, self._memory, 0)), dt)

    @torch.no_grad()
    def initial_state(self, sequences: int, device: torch.device | str | None = None) -> LayerState:
        """The last conv - 1 inputs of the convolution, (sequences, conv - 1, D + 2 G N), and the
        states, (sequences, heads, P, N)."""
        held = (None if one is None else one.detach().to(device) for one in self._weights())
        weights = Weights(*held)  # type: ignore[arg-type]
        new = weights.rates.new_zeros
        past = new(sequences, self._memory, len(weights.conv))
        h = new(sequences, len(weights.rates), self.head_dim, self.state_dim)
        return LayerState((past, h), weights)

    def step(self, u: torch.Tensor, state: LayerState) -> tuple[torch.Tensor, LayerState]:
        """By the weights that the layer had when the state was begun."""
        weights: Weights = state.fixed
        past, h = state.tensors
        z, xBC, dt = self._projected(weights, u[:, None])
        past = torch.cat([past, xBC], 1)
        chosen = self._selection(weights, past, dt)
        x, dt, B, C = (one[:, 0] for one in chosen)
        h, y = ssd.advanced(h, x, dt, weights.rates, B, C)
        return self._read_out(weights, y, x, z[:, 0]), LayerState((past[:, 1:], h), weights)

    @torch.no_grad()
    def keep_modes(self, modes: torch.Tensor) -> None:
        """Keep only these states of every channel, (r,) indices, or (G, r), each group's own; what
        is kept keeps its bits.

        Raises:
            ValueError: a free basis, whose states are no rows of the projections.
        """
        self._check_own()
        for name in self.of_states:
            old = self.get_parameter(name)
            at = modes.to(old.device).expand(self.groups, -1)
            at = at.view(*at.shape, *(1,) * (old.dim() - 2))
            self._replace(name, old.take_along_dim(at, 1).contiguous())

    def project(self, W: torch.Tensor, T: torch.Tensor, orders: torch.Tensor) -> None:
        """In a free basis: W (G, r, N) takes the states of each group to its new ones, T (G, N, r)
        back, of these orders (G,)."""
        self._project(W, T, orders)

    def resize(self, state_dim: int) -> None:
        """See `Layer`."""
        check_state_dim(state_dim)
        if self.basis == "free":
            self._resize_basis(state_dim)
            return
        for name in self.of_states:
            old = self.get_parameter(name)
            self._replace(name, old.new_empty(len(old), state_dim, *old.shape[2:]))

    @property
    def _memory(self) -> int:
        """Inputs before the present one that the convolution reads."""
        return self.get_parameter("x_conv").shape[1] - 1

    def _weights(self) -> Weights:
        def together(*names: str) -> torch.Tensor:
            parts = map(self.get_parameter, names)
            return torch.cat([part.flatten(0, 1) if name in self.of_states else part
                              for name, part in zip(names, parts, strict=True)])  # fmt: skip

        return Weights(
            self.rates,
            together("in_proj", "B_proj", "C_proj", "dt_proj"),
            together("x_conv", "B_conv", "C_conv"),
            together("x_conv_bias", "B_conv_bias", "C_conv_bias"),
            **{name: self.get_parameter(name) for name in Weights._fields[4:-2]},
            B_map=self.B_map,
            C_map=self.C_map,
        )

    def _projected(
        self, weights: Weights, u: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """z (..., D), x, B and C side by side (..., D + 2 G N), and dt (..., heads) before the
        softplus."""
        sizes = [len(weights.norm_weight), len(weights.conv), len(weights.rates)]
        z, xBC, dt = linear(u, weights.projection).split(sizes, -1)
        return z, xBC, dt

    def _selection(self, weights: Weights, xBC: torch.Tensor, dt: torch.Tensor) -> HeadSelection:
        """Of x, B and C with those of conv - 1 steps before."""
        channels, states = len(weights.norm_weight), self.groups * self.features
        convolution = convolved(xBC, weights.conv, weights.conv_bias)
        x, B, C = convolution.split([channels, states, states], -1)
        dt = softplus(dt.to(weights.dt_bias.dtype) + weights.dt_bias)
        B, C = (one.unflatten(-1, (self.groups, -1)) for one in (B, C))
        chosen = HeadSelection(x.unflatten(-1, (-1, self.head_dim)), dt, B, C)
        if weights.B_map is None or weights.C_map is None:
            return chosen
        return chosen.reduced(weights.B_map, weights.C_map.mT)

    def _read_out(self, weights: Weights, y: Any, x: Any, z: torch.Tensor) -> torch.Tensor:
        """(..., H) from the scan's output and its input, (..., heads, P) each, and z (..., D)."""
        y = torch.addcmul(y, weights.D[:, None], x).flatten(-2) * silu(z)
        y = y.unflatten(-1, (self.groups, -1))
        y = rms_norm(y, y.shape[-1:], eps=EPSILON).flatten(-2)
        return linear(y * weights.norm_weight, weights.out_proj)

    def _replace(self, name: str, value: torch.Tensor) -> None:
        frozen = not self.get_parameter(name).requires_grad
        setattr(self, name, nn.Parameter(value, requires_grad=not frozen))
