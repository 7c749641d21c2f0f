"""The inner loops of the scan backend, in place on slabs of states.

A slab (sequences, steps, 2 N) holds states, or their gradients, real parts before imaginary ones.
On a CPU with numba the loops are compiled once and cached on disk; elsewhere they are blocks of
PyTorch operations. `LOOPS` says which, and why. A compiled loop runs on one thread: the products
around it are most of the time, and its result then depends on no thread count.
"""

from __future__ import annotations

import itertools
import math

import torch

try:
    from . import compiled
except (ImportError, OSError) as error:  # no numba, or LLVM cannot be loaded
    compiled = None  # type: ignore[assignment]
    LOOPS = f"PyTorch blocks ({error})"
else:
    LOOPS = f"compiled by numba {compiled.VERSION}"


def advance(h: torch.Tensor, lam: torch.Tensor, state: torch.Tensor) -> None:
    """h_t += Lambda h_{t-1} along a slab, from the state before it; that becomes the last one.

    Args:
        h: (S, T, 2 N), B u on entry and the states on return.
        lam: (2, N), real and imaginary parts of Lambda.
        state: (S, 2 N), overwritten.
    """
    if _is_compiled(h):
        compiled.advance(h.numpy(), lam.numpy(), state.numpy())
    else:
        _blocks(h, lam, state, reverse=False)


def retreat(
    g: torch.Tensor, lam: torch.Tensor, state: torch.Tensor, h: torch.Tensor, before: torch.Tensor
) -> torch.Tensor:
    """g_t += conj(Lambda) g_{t+1} along a slab, backwards in time from what follows it.

    Args:
        g, lam, state: as in `advance`; `state` holds g of the step after it, then of the first one.
        h: (S, T, 2 N), the states of the slab.
        before: (S, 2 N), the states before it.

    Returns:
        The gradient of Lambda (2, N): the sum over the slab of conj(h_{t-1}) g_t.
    """
    if _is_compiled(g):
        out = torch.zeros_like(lam)
        arrays = (x.numpy() for x in (g, lam, state, h, before, out))
        compiled.retreat(*arrays)
        return out
    recede(g, lam, state)
    return _products(g[:, :1], before[:, None]) + _products(g[:, 1:], h[:, :-1])


def recede(g: torch.Tensor, lam: torch.Tensor, state: torch.Tensor) -> None:
    """`retreat` to the bit without the gradient of Lambda, for which alone it takes states."""
    if _is_compiled(g):
        compiled.recede(g.numpy(), lam.numpy(), state.numpy())
    else:
        _blocks(g, torch.stack([lam[0], -lam[1]]), state, reverse=True)


def _is_compiled(x: torch.Tensor) -> bool:
    return compiled is not None and x.device.type == "cpu"


def _products(g: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    n = g.shape[-1] // 2
    g_re, g_im, h_re, h_im = g[..., :n], g[..., n:], h[..., :n], h[..., n:]
    real = torch.einsum("stn,stn->n", g_re, h_re) + torch.einsum("stn,stn->n", g_im, h_im)
    imag = torch.einsum("stn,stn->n", g_im, h_re) - torch.einsum("stn,stn->n", g_re, h_im)
    return torch.stack([real, imag])


def _blocks(x: torch.Tensor, lam: torch.Tensor, state: torch.Tensor, reverse: bool) -> None:
    """`advance` in about sqrt(T) blocks at once, then block by block the state before each."""
    T = x.shape[1]
    steps = max(1, math.isqrt(T))
    blocks = -(-T // steps)
    if blocks * steps != T:  # a remainder goes apart: the last steps of the walk
        whole = T - T % steps
        parts = (x[:, -whole:], x[:, :-whole]) if reverse else (x[:, :whole], x[:, whole:])
        for part in parts:
            _blocks(part, lam, state, reverse)
        return
    view = x.unflatten(1, (blocks, steps))
    order = range(steps)[::-1] if reverse else range(steps)
    for before, now in itertools.pairwise(order):
        _add_product(view[:, :, now], lam, view[:, :, before])
    table = _power_table(lam, steps)
    table = table.flip(1) if reverse else table
    for block in range(blocks)[::-1] if reverse else range(blocks):
        _add_product(view[:, block], table, state[:, None])
        state.copy_(view[:, block, order[-1]])


def _power_table(lam: torch.Tensor, steps: int) -> torch.Tensor:
    """(2, steps, N): Lambda^1 to Lambda^steps, taken in double precision."""
    k = torch.arange(1, steps + 1, device=lam.device, dtype=torch.float64)[:, None]
    value = torch.complex(lam[0].double(), lam[1].double())
    table = torch.polar(value.abs() ** k, value.angle() * k)
    return torch.stack([table.real, table.imag]).to(lam.dtype)


def _add_product(into: torch.Tensor, factor: torch.Tensor, x: torch.Tensor) -> None:
    """into += factor x, complex, with real before imaginary parts along the last axis."""
    n = into.shape[-1] // 2
    re, im = into[..., :n], into[..., n:]
    x_re, x_im = x[..., :n], x[..., n:]
    re.addcmul_(factor[0], x_re).addcmul_(factor[1], x_im, value=-1)
    im.addcmul_(factor[0], x_im).addcmul_(factor[1], x_re)
