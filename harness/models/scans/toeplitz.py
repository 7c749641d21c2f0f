"""Small widths: one block-Toeplitz product a block of steps; no state but those between blocks.

In blocks of T steps, y = x M + s O and s' = Lambda^T s + x G: M (T H, T H) is block-Toeplitz in
Re(C Lambda^k B), G (T H, 2 N) brings a block into the state after it, O (2 N, T H) takes the
state before it to its outputs. Real parts stand before imaginary ones. The products of a whole
sequence and their gradients are written by hand; how M, G and O come from Lambda, B and C is left
to autograd, since those are small.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn.functional import pad

from . import loops
from .powers import powers

# What one number of one state costs between blocks, in the flops of the products: measured on a
# CPU, where it is memory that is paid for.
STATE_COST = 24.0
SHORTEST, LONGEST = 14, 64


def run(
    nu: torch.Tensor,
    theta: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    u: torch.Tensor,
    remember: str = "auto",
) -> torch.Tensor:
    """`lru_scan` block by block; there are no states to `remember`."""
    batch, length, width = u.shape
    T = block_steps(width, nu.shape[0], length)
    blocks = -(-length // T)
    lam = powers(nu, theta, torch.arange(T + 1, device=u.device))
    within, into, out = _matrices(lam, B, C)
    step = torch.stack([lam[T].real, lam[T].imag])
    x = u if blocks * T == length else pad(u, (0, 0, 0, blocks * T - length))
    y = _Blocks.apply(step, within, into, out, x.reshape(batch, blocks, T * width))
    return y.reshape(batch, blocks * T, width)[:, :length]


def block_steps(width: int, state_dim: int, length: int) -> int:
    """T: 2 T H flops a token inside a block against a state's cost shared by T tokens.

    A number that divides the length is taken if there is one nearby, since padding costs a copy.
    """
    best = math.sqrt(STATE_COST * state_dim / width)
    T = round(min(max(best, SHORTEST), LONGEST))
    near = [t for t in range(math.ceil(T / 1.5), int(T * 1.5) + 1) if length % t == 0]
    return min(min(near, key=lambda t: abs(t - T), default=T), length)


def _matrices(
    lam: torch.Tensor, B: torch.Tensor, C: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """M (T H, T H), G (T H, 2 N), O (2 N, T H) from Lambda^0 to Lambda^T (T + 1, N)."""
    T, width = lam.shape[0] - 1, B.shape[1]
    kernel = (C[None] @ (lam[:T, :, None] * B)).real  # (T, H, H)
    k = torch.arange(T, device=B.device)
    lag = k[:, None] - k[None, :]
    kernel = torch.cat([kernel, kernel.new_zeros(1, *kernel.shape[1:])])
    within = kernel[torch.where(lag >= 0, lag, T)]  # the last one is for what is to come
    within = within.permute(1, 3, 0, 2).reshape(T * width, T * width)
    into = (lam[:T].flip(0)[:, :, None] * B).permute(0, 2, 1).reshape(T * width, -1)
    out = (lam[1:, None, :] * C).reshape(T * width, -1)
    into = torch.cat([into.real, into.imag], dim=1)
    return within, into, torch.cat([out.real, -out.imag], dim=1).t()


class _Blocks(torch.autograd.Function):
    """step (2, N) = Lambda^T, M, G, O and x (batch, blocks, T H) to y like x.

    States lie in one matrix with a row to spare, so that the state before a block and the one
    after it are the same rows shifted by one, without a copy. Where x alone wants a gradient, as
    when a truncation looks at data, they are not kept.
    """

    @staticmethod
    def forward(ctx: Any, step: Any, within: Any, into: Any, out: Any, x: Any) -> Any:
        rows = x.flatten(0, 1)
        states = x.new_empty(len(rows) + 1, into.shape[1])
        torch.mm(rows, into, out=states[1:])
        loops.advance(_by_sequence(states[1:], x), step, _nothing(x, into))
        states[:: x.shape[1]] = 0.0  # before a sequence; the state after one is never read
        y = torch.mm(rows, within).addmm_(states[:-1], out)
        ctx.save_for_backward(step, within, into, out, x, states if _weights_want(ctx) else None)
        return y.view(x.shape)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Any) -> Any:
        step, within, into, out, x, states = ctx.saved_tensors
        rows, g = x.flatten(0, 1), gradient.reshape(-1, x.shape[2])
        d_states = rows.new_empty(len(rows) + 1, into.shape[1])
        torch.mm(g, out.t(), out=d_states[:-1])
        nothing, along = _nothing(x, into), _by_sequence(d_states[:-1], x)
        if states is None:
            loops.recede(along, step, nothing)
        else:
            kept = _by_sequence(states[:-1], x)
            d_step = loops.retreat(along, step, nothing, kept, torch.zeros_like(nothing))
        d_states[:: x.shape[1]] = 0.0  # nothing adds to the state before a sequence
        behind = d_states[1:]
        d_x = torch.mm(g, within.t()).addmm_(behind, into.t()).view(x.shape)
        if states is None:
            return None, None, None, None, d_x
        return d_step, rows.t() @ g, rows.t() @ behind, states[:-1].t() @ g, d_x


def _weights_want(ctx: Any) -> bool:
    return any(ctx.needs_input_grad[:4])


def _by_sequence(rows: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return rows.view(x.shape[0], x.shape[1], rows.shape[1])


def _nothing(x: torch.Tensor, into: torch.Tensor) -> torch.Tensor:
    """The state before the first block."""
    return x.new_zeros(x.shape[0], into.shape[1])
