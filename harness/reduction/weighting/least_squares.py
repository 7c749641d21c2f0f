"""Least squares for the residues of a system whose poles are given.

The output Re(C x) is linear in the real and imaginary parts of C, and, since x_i = b_i f_i with f_i
the inputs as pole i filters them, in those of B. With e the error so far, A = E x x^H and
S = E x x^T, the correction c that minimises E (e - Re(c x))^2 solves A conj(c) + S c = 2 E e x.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from ..stacks import StackTruncation, System
from .measured import RIDGE
from .states import driven

SWEEPS = 50  # of C and B in turn, at most
ENOUGH = 1e-4  # of the squared error: a sweep that takes less off it is the last


def side_by_side(done: Any) -> System:
    """A truncation's systems, (S, r), (S, r, I), (S, O, r); where there is a static gain, the
    inputs are I further states, of eigenvalue 0."""
    lam, B, C, gain = done.eigenvalues, done.B, done.C, done.gain
    if not isinstance(done, StackTruncation):
        lam, B, C, gain = lam[None], B[None], C[None], None if gain is None else gain[None]
    if gain is None:
        return lam, B, C
    zeros, identity = static(B)
    return (
        torch.cat([lam, zeros], -1),
        torch.cat([B, identity], -2),
        torch.cat([C, gain.real.to(C.dtype)], -1),
    )


def static(B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues and input matrix of states that are the inputs themselves: B is (S, r, I)."""
    size, _, inputs = B.shape
    identity = torch.eye(inputs, dtype=B.dtype, device=B.device)
    return B.new_zeros(size, inputs), identity.expand(size, -1, -1)


def filters(done: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues and input matrix of f, every input filtered by every pole: (S, r I) and
    (S, r I, I), with zeros in the padding of a stack."""
    lam, B, _ = side_by_side(done)
    lam, (size, _, inputs) = lam[:, : done.order], B.shape
    identity = torch.eye(inputs, dtype=B.dtype, device=B.device)
    into = identity.expand(size, done.order, -1, -1).clone()
    if isinstance(done, StackTruncation):
        into[~done.kept.to(into.device)] = 0.0
    return lam.repeat_interleave(inputs, -1), into.flatten(1, 2)


@dataclass
class Sums:
    """Sums over steps, for one system: `F` of f f^H and `P` of f f^T (n, n), `Y` of e f^T (O, n),
    complex128, and the squared error, for regressors f (n,) and errors e (O,)."""

    F: torch.Tensor
    P: torch.Tensor
    Y: torch.Tensor
    squares: float

    def take(self, theta: torch.Tensor) -> None:
        """Take Re(theta f), (O, n), off the error."""
        removed = (theta @ self.P + theta.conj() @ self.F.conj()) / 2
        self.squares -= float((theta * (2 * self.Y - removed)).real.sum())
        self.Y = self.Y - removed

    def best_out(self, K: torch.Tensor) -> torch.Tensor:
        """The correction of C, (O, r), where the states are K f, K (r, n)."""
        return correction(K @ self.F @ K.mH, K @ self.P @ K.mT, self.Y @ K.mT)

    def best_into(self, c: torch.Tensor) -> torch.Tensor:
        """The correction of B, (q,), where the output is Re(c diag(b) f), c (O, q), of the first q
        regressors."""
        q = c.shape[-1]
        A, S = (c.mT @ c.conj()) * self.F[:q, :q], (c.mT @ c) * self.P[:q, :q]
        return correction(A, S, (c * self.Y[:, :q]).sum(0, keepdim=True))[0]


def correction(A: torch.Tensor, S: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """The c (rows, n) of least sum of (e - Re(c x))^2, A that of x x^H, S of x x^T, h of e x^T.

    1e-10 of each state's own second moment is added, so that where the data say nothing the
    coefficients stay. What is found is never worse than c = 0.
    """
    n = len(A)
    top = torch.cat([A.real + S.real, A.imag - S.imag], -1)
    bottom = torch.cat([-(A.imag + S.imag), A.real - S.real], -1)
    scale = A.diagonal().real.clamp_min(0).sqrt().repeat(2)
    scale = torch.where(scale > 0, scale, 1.0)
    normal = torch.cat([top, bottom]) / scale[:, None] / scale
    normal.diagonal().add_(RIDGE)
    right = 2 * torch.cat([h.real, -h.imag], -1) / scale
    found = torch.cholesky_solve(right.mT, torch.linalg.cholesky(normal)).mT / scale
    return torch.complex(found[:, :n], found[:, n:])


class Moments:
    """Sums over sequences and steps, of a block's systems side by side, in blocks of steps.

    full: the layer's systems; done: their truncation; regressors: eigenvalues (S, n) and input
    matrix (S, n, I) of f. The error e is the full systems' output minus the truncated ones'.
    """

    def __init__(self, full: System, done: Any, regressors: tuple[torch.Tensor, torch.Tensor]):
        lam, B, C = side_by_side(done)
        self.lam = torch.cat([full[0], lam, regressors[0]], -1)
        self.into = torch.cat([full[1], B, regressors[1]], -2)
        self.out = _real(torch.cat([full[2], -C], -1).conj())
        size, outputs, first = self.out.shape
        n = 2 * regressors[0].shape[-1]
        self.states = self.out.new_zeros(size, n, n)
        self.errors = self.out.new_zeros(size, outputs, n)
        self.squares = self.out.new_zeros(size)
        self.first = first

    def add(self, u: torch.Tensor, weight: torch.Tensor | None = None) -> None:
        """Run all sequences of a batch, (batch, length, S I); weight (batch, length, S), or 1."""
        for x, root in _with_weights(driven(self.lam, self.into, u), weight):
            parts = _real(x) if root is None else _real(x) * root[..., None]
            f = parts[..., self.first :].flatten(0, 1).transpose(0, 1)
            e = torch.einsum("kbsn,son->skbo", parts[..., : self.first], self.out).flatten(1, 2)
            self.states += f.mT @ f
            self.errors += e.mT @ f
            self.squares += e.square().sum((1, 2))

    def of(self, s: int, chosen: torch.Tensor) -> Sums:
        """Those of system s, for these of its regressors."""
        each = chosen.to(self.states.device)
        M = self.states[s].unflatten(0, (-1, 2)).unflatten(-1, (-1, 2))[each][:, :, each]
        Y = self.errors[s].unflatten(-1, (-1, 2))[:, each]
        rr, ri, ir, ii = M[:, 0, :, 0], M[:, 0, :, 1], M[:, 1, :, 0], M[:, 1, :, 1]
        return Sums(
            torch.complex(rr + ii, ir - ri),
            torch.complex(rr - ii, ir + ri),
            torch.complex(Y[..., 0], Y[..., 1]),
            float(self.squares[s]),
        )


def _real(x: torch.Tensor) -> torch.Tensor:
    """(..., n) complex to (..., 2 n): each entry's real and imaginary part."""
    return torch.view_as_real(x.resolve_conj()).flatten(-2)


def _with_weights(
    blocks: Iterator[torch.Tensor], weight: torch.Tensor | None
) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
    """Blocks of steps, each with the roots (steps, batch, S) of its steps' weights."""
    start = 0
    for x in blocks:
        end = start + len(x)
        yield x, None if weight is None else weight[:, start:end].transpose(0, 1).sqrt()
        start = end
