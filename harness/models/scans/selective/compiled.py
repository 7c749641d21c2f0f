"""Inside a slab by loops compiled by numba; `blocks` says what each computes.

State by state, so that a state of all channels is one row, which stays in the nearest cache from
step to step. Each inner loop stores to one row only, or LLVM leaves it unvectorised (see
`..compiled`), and a sum along a row folds it in halves: no fast-math, so its order is the same on
every machine. A loop runs on one thread.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from harness.tools.compiling import compiled

from . import blocks

ONE_THREAD = True  # that a loop runs on one
LEAST = 16  # numbers that are summed one by one

# exp in float32, from Cephes (Moshier 1989, expf.c): 2^n exp(r), r = x - n log 2 in two parts.
_f = np.float32
LOG2_E, LOG_2, REST_OF_LOG_2 = _f(1.44269504), _f(0.693359375), _f(-2.12194440e-4)
P0, P1, P2 = _f(1.9875691500e-4), _f(1.3981999507e-3), _f(8.3334519073e-3)
P3, P4, P5 = _f(4.1665795894e-2), _f(1.6666665459e-1), _f(5.0000001201e-1)
ONE, NEAREST = _f(1.0), _f(1.5 * 2**23)  # which, added, leaves n in the lowest bits
BIAS, MANTISSA = np.int32(127), np.int32(23)
SLOWEST = _f(-87.0)  # below it powers of two are denormal numbers, which slow all that follows


def decay(decays: torch.Tensor, dt: torch.Tensor, A: torch.Tensor, slab: Any) -> None:
    """See `blocks.decay`; in float32 to 1.4 units of it, and exp(-87) for what is smaller."""
    if decays.dtype != torch.float32:
        blocks.decay(decays, dt, A, slab)
        return
    _decay(decays.numpy(), dt.numpy(), A.numpy(), slab.b, slab.n, slab.t)


def advance(decays: torch.Tensor, x: Any, B: Any, C: Any, state: Any, y: Any, slab: Any) -> None:
    """See `blocks.advance`."""
    arrays = (one.numpy() for one in (decays, x, B, C, state, y))
    _advance(*arrays, slab.b, slab.n, slab.t)


def rebuild(decays: torch.Tensor, x: Any, B: Any, start: Any, h: torch.Tensor, slab: Any) -> None:
    """See `blocks.rebuild`."""
    arrays = (one.numpy() for one in (decays, x, B, start, h))
    _rebuild(*arrays, slab.b, slab.n, slab.t)


def retreat(
    decays: torch.Tensor, h: torch.Tensor, start: Any, x: Any, dt: Any, A: Any, B: Any, C: Any,
    gradient: Any, behind: Any, of_dt: Any, of_x: Any, of_B: Any, of_C: Any, slab: Any,
) -> torch.Tensor:  # fmt: skip
    """See `blocks.retreat`."""
    of_rates = torch.zeros_like(A[slab.n : slab.n_end])
    tensors = (decays, h, start, x, dt, A, B, C, gradient, behind, of_dt, of_x, of_B, of_C,
               of_rates)  # fmt: skip
    _retreat(*(one.numpy() for one in tensors), slab.b, slab.n, slab.t)
    return of_rates


@compiled
def _next(into: Any, a: Any, h: Any, b: Any, x: Any) -> None:
    """into = a h + b x, rows; b a number."""
    for d in range(into.shape[0]):
        into[d] = a[d] * h[d] + b * x[d]


@compiled
def _onwards(h: Any, a: Any, b: Any, x: Any) -> None:
    """h = a h + b x in place, rows; as an argument twice, h would keep LLVM from vectorising."""
    for d in range(h.shape[0]):
        h[d] = a[d] * h[d] + b * x[d]


@compiled
def _scale(into: Any, a: Any) -> None:
    """into = a into, rows."""
    for d in range(into.shape[0]):
        into[d] *= a[d]


@compiled
def _add(into: Any, factor: Any, row: Any) -> None:
    """into += factor row."""
    for d in range(into.shape[0]):
        into[d] += factor * row[d]


@compiled
def _add_product(into: Any, a: Any, b: Any) -> None:
    """into += a b, rows."""
    for d in range(into.shape[0]):
        into[d] += a[d] * b[d]


@compiled
def _plus(into: Any, row: Any) -> None:
    """into += row."""
    for d in range(into.shape[0]):
        into[d] += row[d]


@compiled
def _product(into: Any, a: Any, b: Any) -> None:
    """into = a b, rows."""
    for d in range(into.shape[0]):
        into[d] = a[d] * b[d]


@compiled
def _dot(a: Any, b: Any, room: Any) -> Any:
    """The sum of a b along two rows, folded in halves; `room`, a row, is overwritten."""
    _product(room, a, b)
    left = room.shape[0]
    while left > LEAST:
        half = left // 2
        _plus(room[:half], room[left - half : left])
        left -= half
    total = room[0]
    for d in range(1, left):
        total += room[d]
    return total


@compiled
def _turns(into: Any, dt: Any, A: Any) -> None:
    """x / log 2 to the nearest integer, x = dt A, in the lowest bits of a number."""
    for d in range(into.shape[0]):
        into[d] = max(dt[d] * A[d], SLOWEST) * LOG2_E + NEAREST


@compiled
def _remainders(into: Any, dt: Any, A: Any, turns: Any) -> None:
    """exp(x - n log 2)."""
    for d in range(into.shape[0]):
        n = turns[d] - NEAREST
        r = (max(dt[d] * A[d], SLOWEST) - n * LOG_2) - n * REST_OF_LOG_2
        y = ((((P0 * r + P1) * r + P2) * r + P3) * r + P4) * r + P5
        into[d] = (y * r) * r + r + ONE


@compiled
def _powers(bits: Any) -> None:
    """2^n, by the bits of a float32."""
    for d in range(bits.shape[0]):
        bits[d] = (bits[d] + BIAS) << MANTISSA


@compiled
def _decay(decays: Any, dt: Any, A: Any, b: int, n: int, t: int) -> None:
    turns = np.empty_like(A[0])
    bits = turns.view(np.int32)
    for s in range(decays.shape[0]):
        for i in range(decays.shape[1]):
            for k in range(decays.shape[2]):
                row = decays[s, i, k]
                _turns(turns, dt[b + s, t + k], A[n + i])
                _remainders(row, dt[b + s, t + k], A[n + i], turns)
                _powers(bits)
                _scale(row, turns)


@compiled
def _advance(
    decays: Any, x: Any, B: Any, C: Any, state: Any, y: Any, b: int, n: int, t: int
) -> None:
    for s in range(decays.shape[0]):
        for i in range(decays.shape[1]):
            h = state[b + s, n + i]
            for k in range(decays.shape[2]):
                _onwards(h, decays[s, i, k], B[b + s, t + k, n + i], x[b + s, t + k])
                _add(y[b + s, t + k], C[b + s, t + k, n + i], h)


@compiled
def _rebuild(decays: Any, x: Any, B: Any, start: Any, h: Any, b: int, n: int, t: int) -> None:
    for s in range(decays.shape[0]):
        for i in range(decays.shape[1]):
            last = start[b + s, n + i]
            for k in range(decays.shape[2]):
                row = h[s, i, k]
                _next(row, decays[s, i, k], last, B[b + s, t + k, n + i], x[b + s, t + k])
                last = row


@compiled
def _retreat(
    decays: Any, h: Any, start: Any, x: Any, dt: Any, A: Any, B: Any, C: Any, gradient: Any,
    behind: Any, of_dt: Any, of_x: Any, of_B: Any, of_C: Any, of_rates: Any, b: int, n: int, t: int,
) -> None:  # fmt: skip
    through, room = np.empty_like(A[0]), np.empty_like(A[0])
    for s in range(decays.shape[0]):
        q = b + s
        for i in range(decays.shape[1]):
            m = n + i
            g = behind[q, m]
            for k in range(decays.shape[2] - 1, -1, -1):
                at = t + k
                _add(g, C[q, at, m], gradient[q, at])
                of_C[q, at, m] += _dot(gradient[q, at], h[s, i, k], room)
                of_B[q, at, m] += _dot(g, x[q, at], room)
                _add(of_x[q, at], B[q, at, m], g)
                _scale(g, decays[s, i, k])
                last = h[s, i, k - 1] if k > 0 else start[q, m]
                _product(through, g, last)
                _add_product(of_dt[q, at], through, A[m])
                _add_product(of_rates[i], through, dt[q, at])
