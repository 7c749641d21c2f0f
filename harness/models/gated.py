"""The gated half of a block, x + GLU(gelu(y)), in slabs, its backward written by hand.

None of it depends on the state dimension, and without fusion it is a dozen passes over memory.
Here a slab of steps goes through all of them while it is in the cache, and the two matrices of the
gate are one product.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

SLAB_NUMBERS = 2**18  # of H columns: 1 MB of float32, several of which fit the cache
DEVICE_SLAB = 2**10  # times as many on a GPU, which wants work more than locality

aten = torch.ops.aten


def gated(
    x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """x + p * sigmoid(q) with (p, q) = weight gelu(y) + bias; gelu in its tanh form.

    Args:
        x, y: (batch, length, H) real.
        weight, bias: (2 H, H) and (2 H,), those of p above those of q.
    """
    return _Gated.apply(x, y, weight, bias)


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any, y: Any, weight: Any, bias: Any) -> Any:
        y, flat = y.contiguous(), x.reshape(-1, x.shape[-1])
        rows = y.view(-1, y.shape[-1])
        activation = torch.empty_like(rows)
        gates = rows.new_empty(len(rows), weight.shape[0])
        out = torch.empty_like(rows)
        for part in _parts(rows):
            a, pq, result = activation[part], gates[part], out[part]
            aten.gelu.out(rows[part], approximate="tanh", out=a)
            torch.addmm(bias, a, weight.t(), out=pq)
            aten.glu.out(pq, 1, out=result)
            result.add_(flat[part])
        wanted = any(ctx.needs_input_grad[2:])
        ctx.save_for_backward(weight, rows, activation if wanted else None, gates)
        return out.view(y.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Any) -> Any:
        weight, rows, activation, gates = ctx.saved_tensors
        g = gradient.reshape(rows.shape)
        d_rows = torch.empty_like(rows)
        d_weight, d_bias = torch.zeros_like(weight), weight.new_zeros(weight.shape[0])
        d_gates = gates.new_empty(len(rows[_parts(rows)[0]]), gates.shape[1])
        d_activation = rows.new_empty(len(d_gates), rows.shape[1])
        for part in _parts(rows):
            size = len(rows[part])
            d_pq, d_a = d_gates[:size], d_activation[:size]
            aten.glu_backward.grad_input(g[part], gates[part], 1, grad_input=d_pq)
            if activation is not None:
                d_bias += d_pq.sum(0)
                torch.addmm(d_weight, d_pq.t(), activation[part], out=d_weight)
            torch.mm(d_pq, weight, out=d_a)
            aten.gelu_backward.grad_input(
                d_a, rows[part], approximate="tanh", grad_input=d_rows[part]
            )
        if activation is None:
            return gradient, d_rows.view(gradient.shape), None, None
        return gradient, d_rows.view(gradient.shape), d_weight, d_bias


def _parts(rows: torch.Tensor) -> list[slice]:
    """Slices of rows, as equal as may be."""
    budget = SLAB_NUMBERS * (1 if rows.device.type == "cpu" else DEVICE_SLAB)
    pieces = -(-rows.numel() // budget)
    size = -(-len(rows) // pieces)
    return [slice(i, min(i + size, len(rows))) for i in range(0, len(rows), size)]
