"""Second moments of the states that real sequences drive, in double precision, block by block."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch

from harness.models.scans.associative import scan

from ..circle import gaps

BYTES_AT_ONCE = 4 * 2**20  # of states: a block that stays in the cache
PANELS = 4  # of a Gramian, of which those above the diagonal are left to symmetry
WORTHWHILE = 128  # states from which on panels save time


class SecondMoment:
    """The sum over sequences and steps of x_k x_k^H, x_k = diag(lam) x_{k-1} + into v_k, x_0 = 0.

    lam (S, N) and into (S, N, I) are complex128, of S systems side by side; v is real, (batch,
    length, S I). The mean estimates a controllability Gramian where v is the layer's input; run
    backwards in time with conj(lam), C^H and the gradients of the outputs, an observability one
    (empirical Gramians: Moore 1981; balanced POD: Rowley 2005).
    """

    def __init__(self, lam: torch.Tensor, into: torch.Tensor):
        self.lam, self.into = lam.resolve_conj(), into.resolve_conj()
        self.sum = lam.new_zeros(*lam.shape, lam.shape[-1])
        self.steps = 0

    def add(self, v: torch.Tensor) -> None:
        """Run all sequences of a batch."""
        for x in driven(self.lam, self.into, v):
            self.sum += outer(x)
        self.steps += v.shape[0] * v.shape[1]

    @property
    def mean(self) -> torch.Tensor:
        """(S, N, N) Hermitian."""
        return self.sum / max(1, self.steps)


class InputCovariance:
    """The Gramian of noise that is white in time with the second moment of the inputs u_k: P = A P
    A^H + B E[u u^T] B^H. As `SecondMoment`, it is fed real u, (batch, length, S I)."""

    def __init__(self, lam: torch.Tensor, into: torch.Tensor):
        self.lam, self.into = lam.resolve_conj(), into.resolve_conj()
        size, _, inputs = into.shape
        self.sum = lam.real.new_zeros(size, inputs, inputs)
        self.steps = 0

    def add(self, u: torch.Tensor) -> None:
        """All steps of a batch."""
        size, _, inputs = self.into.shape
        by_system = u.double().reshape(-1, size, inputs).transpose(0, 1)
        self.sum += by_system.mT @ by_system
        self.steps += u.shape[0] * u.shape[1]

    @property
    def mean(self) -> torch.Tensor:
        """(S, N, N) Hermitian."""
        covariance = (self.sum / max(1, self.steps)).to(self.into.dtype)
        gap = gaps(self.lam, float(self.lam.abs().max()))
        return (self.into @ covariance @ self.into.mH) / gap


def driven(lam: torch.Tensor, into: torch.Tensor, v: torch.Tensor) -> Iterator[torch.Tensor]:
    """The states of all sequences, in blocks of steps: (steps, batch, S, N) complex128 each."""
    batch, length, _ = v.shape
    size, n, inputs = into.shape
    at_once = max(1, min(length, BYTES_AT_ONCE // (16 * batch * size * n)))
    x = lam.new_zeros(batch, size, n)
    for start in range(0, length, at_once):
        part = v[:, start : start + at_once].transpose(0, 1).to(torch.float64)
        drive = _drive(into, part.reshape(*part.shape[:2], size, inputs))
        states = _run(lam, drive, x)
        x = states[-1]
        yield states


def _drive(into: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """into v: (steps, batch, S, I) real to (steps, batch, S, N) complex."""
    if into.shape[0] == 1:
        flat = torch.view_as_real(into[0].mT.contiguous()).flatten(-2)  # (I, 2 N)
        found = v.reshape(-1, v.shape[-1]) @ flat
        return torch.view_as_complex(found.view(*v.shape[:3], -1, 2))
    if into.shape[-1] == 1:
        return v * into[..., 0]
    return torch.einsum("kbsi,sni->kbsn", v.to(into.dtype), into)


def _run(lam: torch.Tensor, drive: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The recurrence from x (batch, S, N), in place of its drive."""
    drive[0] += lam * x
    if drive.device.type == "cpu":
        for k in range(1, len(drive)):
            torch.addcmul(drive[k], drive[k - 1], lam, out=drive[k])
        return drive
    steps, batch, size, n = drive.shape
    flat = drive.permute(1, 0, 2, 3).reshape(batch, steps, size * n)
    _, found = scan(lam.reshape(-1).expand(steps, -1), flat)
    return found.reshape(batch, steps, size, n).transpose(0, 1)


def outer(x: torch.Tensor) -> torch.Tensor:
    """The sum of x x^H over steps and batch: (steps, batch, S, N) to (S, N, N)."""
    size, n = x.shape[-2:]
    if size > 1:
        flat = x.reshape(-1, size, n).transpose(0, 1)
        return flat.mT @ flat.conj()
    flat = x.reshape(-1, n)
    if n < WORTHWHILE:
        return (flat.mT @ flat.conj())[None]
    found = flat.new_zeros(n, n)
    edges = [n * i // PANELS for i in range(PANELS + 1)]
    for first, end in itertools.pairwise(edges):
        found[:end, first:end] = flat[:, :end].mT @ flat[:, first:end].conj()
        found[first:end, :first] = found[:first, first:end].mH
    return found[None]


def outer_flops(order: int) -> float:
    """Real FLOPs per token of `outer` for one system alone: 8 N^2, less what symmetry gives."""
    share = 1.0 if order < WORTHWHILE else (PANELS + 1) / (2 * PANELS)
    return share * 8 * order * order
