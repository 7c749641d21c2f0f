"""Loops compiled by numba, on numpy views; `loops` says what each computes.

Each inner loop stores to one row only: with two, LLVM gives up proving that rows do not overlap
and leaves the loop unvectorised, four times slower. No fast-math: sums keep their order.
"""

from __future__ import annotations

from typing import Any

import numba

from harness.tools.compiling import compiled

VERSION = numba.__version__


@compiled
def _add_real(into: Any, a: Any, x: Any, b: Any, y: Any) -> None:
    """into += a x - b y, rows."""
    for k in range(into.shape[0]):
        into[k] += a[k] * x[k] - b[k] * y[k]


@compiled
def _add_imaginary(into: Any, a: Any, x: Any, b: Any, y: Any) -> None:
    """into += a x + b y, rows."""
    for k in range(into.shape[0]):
        into[k] += a[k] * x[k] + b[k] * y[k]


@compiled
def advance(h: Any, lam: Any, state: Any) -> None:
    """See `loops.advance`."""
    n = lam.shape[1]
    re, im = lam[0], lam[1]
    for s in range(h.shape[0]):
        before = state[s]
        for t in range(h.shape[1]):
            row = h[s, t]
            _add_real(row[:n], re, before[:n], im, before[n:])
            _add_imaginary(row[n:], re, before[n:], im, before[:n])
            before = row
        state[s] = before


@compiled
def retreat(g: Any, lam: Any, state: Any, h: Any, before: Any, out: Any) -> None:
    """See `loops.retreat`; `out` is its result."""
    n = lam.shape[1]
    re, im, out_re, out_im = lam[0], lam[1], out[0], out[1]
    for s in range(g.shape[0]):
        behind = state[s]
        for t in range(g.shape[1] - 1, -1, -1):
            row = g[s, t]
            last = h[s, t - 1] if t > 0 else before[s]
            _add_imaginary(row[:n], re, behind[:n], im, behind[n:])
            _add_real(row[n:], re, behind[n:], im, behind[:n])
            _add_imaginary(out_re, row[:n], last[:n], row[n:], last[n:])
            _add_real(out_im, row[n:], last[:n], row[:n], last[n:])
            behind = row
        state[s] = behind


@compiled
def recede(g: Any, lam: Any, state: Any) -> None:
    """See `loops.recede`."""
    n = lam.shape[1]
    re, im = lam[0], lam[1]
    for s in range(g.shape[0]):
        behind = state[s]
        for t in range(g.shape[1] - 1, -1, -1):
            row = g[s, t]
            _add_imaginary(row[:n], re, behind[:n], im, behind[n:])
            _add_real(row[n:], re, behind[n:], im, behind[:n])
            behind = row
        state[s] = behind


__all__ = ["VERSION", "advance", "recede", "retreat"]
