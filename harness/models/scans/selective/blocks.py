"""Inside a slab by PyTorch operations: a scan of log depth over its steps (Hillis and Steele).

The arguments of each function are whole arrays, of which it works on the part of the slab; see
`slabs`.
"""

from __future__ import annotations

from typing import Any

import torch

ONE_THREAD = False


def decay(decays: torch.Tensor, dt: torch.Tensor, A: torch.Tensor, slab: Any) -> None:
    """exp(dt A) of a slab into decays."""
    torch.mul(_of(slab, dt)[:, None], A[slab.n : slab.n_end, None], out=decays).exp_()


def advance(
    decays: torch.Tensor, x: Any, B: Any, C: Any, state: Any, y: torch.Tensor, slab: Any
) -> None:
    """y_t += C_t h_t along a slab, from the state before it; that becomes the last one."""
    h = _states(decays, x, B, state, slab)
    _of(slab, y).add_((_columns(slab, C) * h).sum(1))
    _at(slab, state).copy_(h[:, :, -1])


def rebuild(decays: torch.Tensor, x: Any, B: Any, start: Any, h: torch.Tensor, slab: Any) -> None:
    """The states of a slab into h, from the state before it."""
    h.copy_(_states(decays, x, B, start, slab))


def retreat(
    decays: torch.Tensor, h: torch.Tensor, start: Any, x: Any, dt: Any, A: Any, B: Any, C: Any,
    gradient: Any, behind: Any, of_dt: Any, of_x: Any, of_B: Any, of_C: Any, slab: Any,
) -> torch.Tensor:  # fmt: skip
    """Gradients along a slab, backwards in time, added to dt's (through the decays alone), x's,
    B's and C's; returns that of A's part (n, D).

    behind: exp(dt A) g of the step after the slab, then of its first one; g is the gradient of h.
    """
    g_y = _of(slab, gradient)[:, None]
    g = _columns(slab, C) * g_y
    g[:, :, -1] += _at(slab, behind)
    after = torch.cat([decays[:, :, 1:], torch.zeros_like(decays[:, :, :1])], 2)
    g = _doubled(after.flip(2), g.flip(2)).flip(2)
    _rows(slab, of_C).add_((g_y * h).sum(-1).mT)
    _rows(slab, of_B).add_((g * _of(slab, x)[:, None]).sum(-1).mT)
    _of(slab, of_x).add_((_columns(slab, B) * g).sum(1))
    g = decays * g
    _at(slab, behind).copy_(g[:, :, 0])
    g = g * torch.cat([_at(slab, start)[:, :, None], h[:, :, :-1]], 2)
    _of(slab, of_dt).add_((g * A[slab.n : slab.n_end, None]).sum(1))
    return (g * _of(slab, dt)[:, None]).sum((0, 2))


def _states(decays: Any, x: Any, B: Any, start: Any, slab: Any) -> torch.Tensor:
    drive = _columns(slab, B) * _of(slab, x)[:, None]
    drive[:, :, 0] += decays[:, :, 0] * _at(slab, start)
    return _doubled(decays, drive)


def _doubled(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """h_t = a_t h_{t-1} + b_t along the third axis, h = 0 before it; b is overwritten."""
    reach, steps = 1, b.shape[2]
    while reach < steps:
        b[:, :, reach:] += a[:, :, reach:] * b[:, :, :-reach]
        ones = torch.ones_like(a[:, :, :reach])
        a = a * torch.cat([ones, a[:, :, :-reach]], 2)
        reach *= 2
    return b


def _of(slab: Any, value: torch.Tensor) -> torch.Tensor:
    """(sequences, steps, ...) of (batch, length, ...)."""
    return value[slab.b : slab.b_end, slab.t : slab.t_end]


def _at(slab: Any, value: torch.Tensor) -> torch.Tensor:
    """(sequences, states, D) of (batch, N, D)."""
    return value[slab.b : slab.b_end, slab.n : slab.n_end]


def _rows(slab: Any, value: torch.Tensor) -> torch.Tensor:
    """(sequences, steps, states) of (batch, length, N)."""
    return _of(slab, value)[..., slab.n : slab.n_end]


def _columns(slab: Any, value: torch.Tensor) -> torch.Tensor:
    """The same as (sequences, states, steps, 1)."""
    return _rows(slab, value).mT[..., None]
