"""Hankel singular values, mode shares, and the decomposition that both and every truncation need.

One decomposition of a system serves its spectrum and the truncation that follows it: Gramians,
their square roots and the singular value decomposition are most of the cost of either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch

from harness.models.orders import Order

from .arrays import Array, give_back, to_complex128
from .gramians import energy_rank, square_roots


@dataclass(frozen=True)
class Decomposition:
    """A diagonal system and L^H R = U diag(hsv) Vh, with P = R R^H and Q = L L^H its Gramians.

    eigenvalues (..., N), B (..., N, H), C (..., H, N), R, L, U, Vh (..., N, N) are complex128, hsv
    (..., N) is float64, descending; all on one device.

    A block of one system and a block of many (`StackDecomposition`) answer to `systems`,
    `state_dim`, `order`, `hsv`, `mode_shares` and `energy_rank` alike.
    """

    eigenvalues: torch.Tensor
    B: torch.Tensor
    C: torch.Tensor
    R: torch.Tensor
    L: torch.Tensor
    U: torch.Tensor
    hsv: torch.Tensor
    Vh: torch.Tensor

    @property
    def is_real(self) -> bool:
        """Whether it is a real system's, in pairs of conjugate coordinates: see `real.Whole`."""
        return False

    @property
    def systems(self) -> tuple[Decomposition, ...]:
        """The systems of the block: this one."""
        return (self,)

    @property
    def state_dim(self) -> int:
        """N, the states of the block's largest system."""
        return self.hsv.shape[-1]

    @property
    def order(self) -> Order:
        """What a truncation starts from, in the form that `truncate` takes for the block."""
        return self.state_dim

    def energy_rank(self, tau: float) -> Order:
        """The order that discards a fraction tau of the energy; see `energy_rank`."""
        return energy_rank(self.hsv, tau)

    @property
    def mode_shares(self) -> torch.Tensor:
        """The real diagonal of (P Q)^(1/2), (..., N) float64, in parameter order.

        The shares of a system sum to the sum of its Hankel singular values. The root is
        R V U^H L^H, so nothing is divided.
        """
        return ((self.R @ self.Vh.mH) * (self.L @ self.U).conj()).sum(-1).real

    @property
    def mode_gains(self) -> torch.Tensor:
        """What LAST and AIRE score a mode's input and output by, (N,) float64: `gains`."""
        return gains(self.B, self.C)

    def unstack(self) -> list[Self]:
        """The systems along the leading dimension, each by itself."""
        return [type(self)(*parts) for parts in zip(*vars(self).values(), strict=True)]


def decompose(eigenvalues: torch.Tensor, B: torch.Tensor, C: torch.Tensor) -> Decomposition:
    """Decompose a system, or a stack of systems, of complex128 tensors.

    Arguments and errors as for `gramians`.
    """
    R, L = square_roots(eigenvalues, B, C)
    U, S, Vh = torch.linalg.svd(L.mH @ R)
    return Decomposition(eigenvalues, B, C, R, L, U, S, Vh)


def svd(matrix: torch.Tensor, is_real: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """U and Vh, complex128, and singular values of a complex128 matrix; real ones of a matrix that
    is real but for rounding."""
    U, S, Vh = torch.linalg.svd(matrix.real if is_real else matrix)
    return U.to(matrix.dtype), S, Vh.to(matrix.dtype)


def gains(B: torch.Tensor, C: torch.Tensor) -> torch.Tensor:
    """|C_i| |B_i| of each mode, (N,) float64: Euclidean norms over the channels."""
    return torch.linalg.vector_norm(B, dim=1) * torch.linalg.vector_norm(C, dim=0)


def hankel_singular_values(eigenvalues: Array, B: Array, C: Array) -> Array:
    """Hankel singular values, float64, (..., N), descending: the singular values of L^H R.

    Arguments and errors as for `gramians`.
    """
    system, as_numpy = to_complex128(eigenvalues, B, C)
    R, L = square_roots(*system)
    return give_back(torch.linalg.svdvals(L.mH @ R), as_numpy)


def spectrum(eigenvalues: Array, B: Array, C: Array) -> tuple[Array, Array]:
    """Hankel singular values (..., N), descending, and mode shares (..., N), parameter order.

    Arguments and errors as for `gramians`; see `Decomposition.mode_shares`.
    """
    system, as_numpy = to_complex128(eigenvalues, B, C)
    found = decompose(*system)
    return give_back(found.hsv, as_numpy), give_back(found.mode_shares, as_numpy)
