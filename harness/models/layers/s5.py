"""The S5 layer (Smith, Warrington and Linderman 2023, arXiv 2208.04933)."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Self

import torch
from torch import nn

from .. import scans
from .base import LayerState
from .diagonal import DiagonalLayer
from .discretisation import Discrete, Discretisation, continuous, discretised, log_uniform
from .hippo import normal_legs

VECTORS = ("Lambda_re", "Lambda_im", "log_step")
MATRICES = ("B_re", "B_im", "C_re", "C_im")
CLIP = -1e-4  # what `clip_eigs` keeps real parts at or below
CUT = 0.87962566103423978  # the deviation of a standard normal number cut off at 2


class S5(DiagonalLayer):
    """x' = Lambda x + B u with a time step for every state, y = 2 Re(C x) + D u.

    The 2 stands only with `conj_sym`: each of the N stored states then stands for itself and its
    conjugate, P = 2 N in the authors' words; without it P = N. With `bidirectional` a second C
    reads the states of the same system run backwards in time, y = 2 Re(C [x; x_backwards]) + D u.

    Parameters (float32): Lambda_re, Lambda_im, log_step (N,); B_re, B_im (N, H); C_re, C_im (H, N),
    or (2 H, N) where bidirectional, the rows of the backward direction last; D (H,). `system` is
    the discrete one that B and C make under `discretisation`, the factor 2 in C; of a
    bidirectional layer its 2 H outputs are those of both directions, so that the observability
    Gramian is C1^H C1 + C2^H C2's, and an error bound e holds for both side by side: for their sum
    it is sqrt(2) e.
    """

    transports: ClassVar = {"B": ("B_re", "B_im"), "C": ("C_re", "C_im")}
    restarts: ClassVar = VECTORS
    Lambda_re: nn.Parameter
    Lambda_im: nn.Parameter
    log_step: nn.Parameter

    state_axes: ClassVar = {name: int(name in ("C_re", "C_im")) for name in (*VECTORS, *MATRICES)}

    def __init__(
        self,
        width: int,
        state_dim: int,
        *,
        conj_sym: bool = True,
        bidirectional: bool = False,
        hippo_blocks: int = 1,
        discretisation: Discretisation = "zoh",
        c_init: str = "trunc_standard_normal",
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        clip_eigs: bool = True,
        dt_global: bool = False,
        backend: str = "auto",
        remember: str = "auto",
    ):
        super().__init__(backend, remember)
        self.conjugates, self.bidirectional = conj_sym, bidirectional
        self.discretisation, self.clip_eigs = discretisation, clip_eigs
        self.dt_global = dt_global
        lam, V = block_hippo(state_dim, hippo_blocks, conj_sym)
        states = V.shape[0]  # P, whose half is stored where conj_sym
        B = V.mH @ _lecun(states, width, fan_in=states).to(V.dtype)
        directions = [_output(c_init, width, V) for _ in range(1 + bidirectional)]
        values = {
            "Lambda_re": lam.real,
            "Lambda_im": lam.imag,
            "log_step": log_uniform(dt_min, dt_max, state_dim),
            "B_re": B.real,
            "B_im": B.imag,
            "C_re": torch.cat([C.real for C in directions]),
            "C_im": torch.cat([C.imag for C in directions]),
        }
        for name in self.state_axes:
            self.register_parameter(name, nn.Parameter(values[name].float().contiguous()))
        self.D = nn.Parameter(torch.randn(width))
        self.register_parameter("gain", None)

    @classmethod
    def of(cls, spec: Any, state_dim: int) -> Self:
        """See `Layer`."""
        return cls(
            spec.width,
            state_dim,
            conj_sym=spec.conj_sym,
            bidirectional=spec.bidirectional,
            hippo_blocks=spec.hippo_blocks,
            discretisation=spec.discretisation,
            c_init=spec.c_init,
            dt_min=spec.dt_min,
            dt_max=spec.dt_max,
            clip_eigs=spec.clip_eigs,
            dt_global=spec.dt_global,
            backend=spec.backend,
            remember=spec.remember,
        )

    @property
    def ssm_parameters(self) -> tuple[str, ...]:  # type: ignore[override]
        """The authors' groups as they really train, "standard" of their `opt_config`."""
        vectors = VECTORS[:2] if self.dt_global else VECTORS
        return (*vectors, "B_re", "B_im")

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """(batch, length, H) real to the same shape, x = 0 before the first step, and after the
        last one in the other direction."""
        discrete, dtype = self._discrete(), self.D.dtype
        nu, theta = discrete.nu.to(dtype), discrete.theta.to(dtype)
        B, C = self._complex("B"), self._complex("C")
        B = discrete.scale.to(B.dtype)[:, None] * B
        C = 2 * C if self.conjugates else C
        options = {"backend": self.backend, "remember": self.remember}
        if not self.bidirectional:
            return self.through(scans.lru_scan(nu, theta, B, C, u, **options), u)
        ahead, behind = C.chunk(2)
        y = scans.lru_scan(nu, theta, B, ahead, u, **options)
        y = y + scans.lru_scan(nu, theta, B, behind, u.flip(1), **options).flip(1)
        return self.through(y, u)

    def initial_state(self, sequences: int, device: torch.device | str | None = None) -> LayerState:
        """See `DiagonalLayer`. Raises `ValueError` for a bidirectional layer."""
        if self.bidirectional:
            raise ValueError("a bidirectional S5 has no recurrent mode: it reads what comes later")
        return super().initial_state(sequences, device)

    def trainable_system(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """`system`, differentiable in the parameters."""
        discrete = self._discrete()
        B = discrete.scale[:, None] * self._complex("B", torch.float64)
        C = self._complex("C", torch.float64)
        return discrete.eigenvalues, B, 2 * C if self.conjugates else C

    @torch.no_grad()
    def input_scale(self) -> torch.Tensor:
        """(N,) complex128, by which discretisation multiplies the rows of B in `system`."""
        return self._discrete().scale

    @torch.no_grad()
    def assign(self, eigenvalues: torch.Tensor, B: torch.Tensor, C: torch.Tensor) -> None:
        """Take over a system of any state dimension, C (2 H, N) where bidirectional.

        Only the products Lambda dt are determined. The new steps are all the geometric mean of the
        old, so that Lambda trains as fast as before; a state so slow that `clip_eigs` would move it
        has a shorter one. New `nn.Parameter`s replace the old, frozen where those were; D and gain
        stay.
        """
        z = continuous(eigenvalues, self.discretisation)
        dt = self.log_step.double().mean().exp().expand(len(z))
        if self.clip_eigs:
            dt = torch.minimum(dt, z.real / (2 * CLIP))
        dtype = self.D.dtype
        self._replace("log_step", dt.log().to(dtype))
        lam = z / self.log_step.double().exp()
        self._replace("Lambda_re", lam.real.to(dtype))
        self._replace("Lambda_im", lam.imag.to(dtype))
        raw = B / self.input_scale()[:, None]
        C = C / 2 if self.conjugates else C
        for name, part in (("B", raw), ("C", C)):
            self._replace(f"{name}_re", part.real.to(dtype).contiguous())
            self._replace(f"{name}_im", part.imag.to(dtype).contiguous())

    def add_gain(self, gain: torch.Tensor) -> None:
        """See `DiagonalLayer`. Raises `ValueError` for a bidirectional layer."""
        if self.bidirectional:
            raise ValueError("a bidirectional S5 takes no static gain")
        super().add_gain(gain)

    def _discrete(self) -> Discrete:
        real = self.Lambda_re.double()
        if self.clip_eigs:
            real = real.clamp_max(CLIP)
        lam = torch.complex(real, self.Lambda_im.double())
        return discretised(lam, self.log_step.double().exp(), self.discretisation)

    def _complex(self, name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        re, im = (self.get_parameter(f"{name}_{part}") for part in ("re", "im"))
        return torch.complex(re.to(dtype or re.dtype), im.to(dtype or im.dtype))


def block_hippo(state_dim: int, blocks: int, halved: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The normal part of HiPPO-LegS `blocks` times along the diagonal: eigenvalues (N,) and the
    eigenvectors (P, N) that belong to them, complex128; N = P, or `halved` N = P / 2, one of each
    conjugate pair.

    Raises:
        ValueError: N that is not divisible by the blocks.
    """
    if state_dim % blocks:
        raise ValueError(f"state_dim {state_dim} is not divisible by hippo_blocks {blocks}")
    n = state_dim // blocks
    lam, V = normal_legs(2 * n if halved else n)
    return lam[:n].repeat(blocks), torch.block_diag(*[V[:, :n]] * blocks)


def _output(how: str, width: int, V: torch.Tensor) -> torch.Tensor:
    """C (H, N) of one direction, complex128, as the authors draw it.

    `lecun_normal` is what they call so: their library takes P H for the inputs of a (H, P, 2)
    array, so that entries are smaller by sqrt(H) than in `trunc_standard_normal`.
    """
    states, stored = V.shape
    if how == "complex_normal":
        parts = math.sqrt(0.5) * torch.randn(2, width, stored, dtype=torch.float64)
        return torch.complex(*parts)
    fan_in = states * width if how == "lecun_normal" else states
    return torch.complex(*(_lecun(width, states, fan_in=fan_in) for _ in range(2))) @ V


def _lecun(*shape: int, fan_in: int) -> torch.Tensor:
    """Normal numbers of variance 1 / fan_in, cut off at two standard deviations; float64."""
    drawn = torch.empty(shape, dtype=torch.float64)
    nn.init.trunc_normal_(drawn, std=1.0, a=-2.0, b=2.0)
    return drawn / (CUT * math.sqrt(fan_in))
