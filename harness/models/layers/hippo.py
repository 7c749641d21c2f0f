"""HiPPO-LegS (Gu et al. 2020, arXiv 2008.07669), its normal part (Gu et al. 2022, 2206.11893)."""

from __future__ import annotations

import torch


def legs(n: int) -> torch.Tensor:
    """The LegS matrix (n, n), float64: -sqrt((2 i + 1) (2 k + 1)) below the diagonal, -(i + 1) on
    it, 0 above."""
    root = torch.sqrt(1.0 + 2.0 * torch.arange(n, dtype=torch.float64))
    return -torch.tril(torch.outer(root, root)) + torch.diag(torch.arange(n, dtype=torch.float64))


def legs_input(n: int) -> torch.Tensor:
    """The input vector of LegS, sqrt(2 i + 1), (n,) float64."""
    return torch.sqrt(1.0 + 2.0 * torch.arange(n, dtype=torch.float64))


def normal_legs(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The normal part of LegS, LegS + p p^T with p_i = sqrt(i + 1/2), as V diag(w) V^H: w (n,) and
    V (n, n) unitary, complex128, by ascending imaginary part.

    It is -1/2 plus a skew-symmetric matrix, so that all real parts are -1/2, and eigenvalues come
    in conjugate pairs: the first n // 2 are one of each. Eigenvectors have their largest entry real
    and positive, whatever LAPACK's phases.
    """
    p = torch.sqrt(torch.arange(n, dtype=torch.float64) + 0.5)
    normal = legs(n) + torch.outer(p, p)
    skew = normal - torch.diag(normal.diagonal())
    imaginary, V = torch.linalg.eigh(-1j * skew.to(torch.complex128))
    largest = V.gather(0, V.abs().argmax(0, keepdim=True))
    return torch.complex(torch.full_like(imaginary, -0.5), imaginary), V * (
        largest.conj() / largest.abs()
    )
