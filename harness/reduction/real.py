"""Systems that are real, of which a layer stores one state of every conjugate pair.

Of h_k = diag(lambda) h_{k-1} + B u_k, y_k = Re(C h_k) with real inputs, the states of conj(lambda)
and conj(B) are conj(h), and Re(C h) = (C h + conj(C) conj(h)) / 2. So N stored states are a real
system of 2 N real ones. In the coordinates (h, conj h) / sqrt 2 it is diagonal, and a unitary
change from (Re h, Im h): balancing it in real arithmetic gives a real system of order r, whose
poles are conjugate pairs and real ones. A pair is stored as one state, and so is a real pole, which
spends a stored state on one real one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch

from harness.models.orders import Order

from .balanced import Truncation
from .gramians import energy_rank, gramians_of, square_root
from .hankel import Decomposition, svd

System = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
Realness = Literal["complex", "real"]
ROOT_2 = 2**0.5


@dataclass(frozen=True)
class Whole(Decomposition):
    """The decomposition of a real system in the coordinates (h, conj h) / sqrt 2, 2 N of them."""

    @property
    def is_real(self) -> bool:
        return True


@dataclass(frozen=True)
class RealDecomposition:
    """A real system by its stored states, eigenvalues (N,), B (N, H), C (H, N) of y = Re(C h), and
    the decomposition of the `whole` of its 2 N states.

    To ranks a stored state is worth two states of the whole: `hsv` (N,) are the sums of the Hankel
    singular values of the whole two by two, so that their sum, and a fraction tau of it, are those
    of the whole. A real pole among the poles that stay keeps one of its two.
    """

    eigenvalues: torch.Tensor
    B: torch.Tensor
    C: torch.Tensor
    whole: Decomposition

    @property
    def systems(self) -> tuple[RealDecomposition, ...]:
        """The systems of the block: this one."""
        return (self,)

    @property
    def is_real(self) -> bool:
        """That its arithmetic is real, on 2 N states."""
        return True

    @property
    def state_dim(self) -> int:
        """N, the states that are stored."""
        return len(self.eigenvalues)

    @property
    def order(self) -> Order:
        """What a truncation starts from."""
        return self.state_dim

    @cached_property
    def hsv(self) -> torch.Tensor:
        """(N,) float64, descending; see the class."""
        return self.whole.hsv.view(-1, 2).sum(-1)

    @cached_property
    def mode_shares(self) -> torch.Tensor:
        """(N,) float64, in parameter order, of each mode with its conjugate."""
        return _both(self.whole.mode_shares)

    @cached_property
    def mode_gains(self) -> torch.Tensor:
        """(N,) float64, of each mode with its conjugate: |C_i| |B_i| under white noise."""
        return _both(self.whole.mode_gains)

    def energy_rank(self, tau: float) -> Order:
        """The order that discards a fraction tau of the energy; see `energy_rank`."""
        return energy_rank(self.hsv, tau)


def with_conjugates(eigenvalues: torch.Tensor, B: torch.Tensor, C: torch.Tensor) -> System:
    """The whole of stored states: (..., 2 N), (..., 2 N, H), (..., H, 2 N)."""
    return (
        torch.cat([eigenvalues, eigenvalues.conj()], -1),
        torch.cat([B, B.conj()], -2) / ROOT_2,
        torch.cat([C, C.conj()], -1) / ROOT_2,
    )


def decompose_real(
    eigenvalues: torch.Tensor, B: torch.Tensor, C: torch.Tensor
) -> list[RealDecomposition]:
    """The decompositions of a stack of real systems, (S, N), (S, N, H), (S, H, N) complex128.

    Raises as `gramians`.
    """
    whole = with_conjugates(eigenvalues, B, C)
    R, L = (root_of(gramian, square_root) for gramian in gramians_of(*whole))
    U, S, Vh = svd(L.mH @ R, is_real=True)
    wholes = Whole(*whole, R, L, U, S, Vh).unstack()
    stored = zip(eigenvalues, B, C, wholes, strict=True)
    return [RealDecomposition(*one) for one in stored]


def root_of(gramian: torch.Tensor, root: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """A factor R of a whole's Gramian (..., 2 N, 2 N), such that R is real in (Re h, Im h)."""
    n = gramian.shape[-1] // 2
    same, other = gramian[..., :n, :n], gramian[..., :n, n:]  # of h h^H and h h^T
    top = torch.cat([(same + other).real, (other - same).imag], -1)
    bottom = torch.cat([(other + same).imag, (same - other).real], -1)
    re, im = root(torch.cat([top, bottom], -2)).chunk(2, -2)
    return torch.cat([torch.complex(re, im), torch.complex(re, -im)], -2) / ROOT_2


def reduced_real(
    system: RealDecomposition, order: int, method: Callable[[Decomposition, int], Truncation]
) -> Truncation:
    """The largest real system that `order` stored states can hold, by a `method` for the whole.

    Pairs stay together: an odd real order has a real pole, and is tried where an even one has too
    many poles to store.
    """
    r = 2 * order
    while True:
        found = method(system.whole, r)
        if int((found.eigenvalues.imag >= 0).sum()) <= order:
            return _stored(found, system)
        r = found.order - 1


def _stored(found: Truncation, system: RealDecomposition) -> Truncation:
    """A truncation of the whole by its stored states: those of imaginary part 0 and above.

    h = T g + T_conj conj(g) and g = W h + W_conj conj(h). A real pole's g is real, so that half of
    it stands on either side.
    """
    n = system.state_dim
    kept = found.eigenvalues.imag >= 0
    poles = found.eigenvalues[kept]
    real_pole = poles.imag == 0
    B, C = found.B[kept], found.C[:, kept]
    T, W = found.T[:, kept] * (ROOT_2 * torch.where(real_pole, 0.5, 1.0)), found.W[kept] / ROOT_2
    return replace(
        found,
        eigenvalues=poles,
        B=torch.where(real_pole[:, None], B.real.to(B.dtype), B),
        C=torch.where(real_pole, C.real.to(C.dtype), 2 * C),
        hsv=system.hsv,
        order=len(poles),
        T=T[:n],
        W=W[:, :n],
        T_conj=T[n:].conj().resolve_conj(),
        W_conj=W[:, n:],
    )


def _both(of_whole: torch.Tensor) -> torch.Tensor:
    mode, conjugate = of_whole.chunk(2)
    return mode + conjugate
