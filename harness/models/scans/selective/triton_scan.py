"""The selective scan on a GPU by Triton, with its backward pass by hand.

Each launch takes up to `MOST_STATES` states of all channels, so any number of states is possible.
Kept for the backward pass are the states ahead of chunks of max(`STEPS`, N) steps, no more numbers
than the input has; a chunk's own are rebuilt, for the states of one launch. Triton's interpreter
(TRITON_INTERPRET=1) runs the same kernels on a CPU.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch.autograd.function import once_differentiable

MOST_STATES = 16  # of a launch
CHANNELS = 32  # of a program
STEPS = 64  # of a chunk at least
WARPS = 4


def run(x: Any, dt: Any, A: Any, B: Any, C: Any) -> torch.Tensor:
    """`selective_scan` of tensors of one precision, float32 or float64; see there.

    Raises:
        ValueError: another precision.
    """
    if A.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"A is {A.dtype}; the recurrence is in float32 or float64")
    with torch.cuda.device_of(x):
        return _Scan.apply(*(one.contiguous() for one in (x, dt, A.mT, B, C)))


class _Scan(torch.autograd.Function):
    """x, dt (batch, length, D), A (N, D), B, C (batch, length, N) to y like x."""

    @staticmethod
    def forward(ctx: Any, x: Any, dt: Any, A: Any, B: Any, C: Any) -> torch.Tensor:
        y = torch.empty_like(x)
        T, chunks = _chunks(x.shape[1], len(A))
        starts = x.new_empty(len(x), chunks, *A.shape)
        sizes = x.shape[1], chunks, A.shape[1], len(A)
        tiles = _tiles(A)
        for first in range(0, len(A), MOST_STATES):
            options = _options(T, A, first)
            _kernels().forward[len(x), tiles](x, dt, A, B, C, y, starts, *sizes, first, **options)
        ctx.save_for_backward(x, dt, A, B, C, starts)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Any) -> Any:
        x, dt, A, B, C, starts = ctx.saved_tensors
        gradient = gradient.contiguous()
        T, chunks = _chunks(x.shape[1], len(A))
        sizes = x.shape[1], chunks, A.shape[1], len(A)
        tiles, states = _tiles(A), _states(A)
        of_x, of_dt, of_B, of_C = map(torch.empty_like, (x, dt, B, C))
        of_A = torch.empty_like(starts)
        room = x.new_empty(len(x), T, states, A.shape[1])
        parts = x.new_empty(2, tiles, *x.shape[:2], states)
        for first in range(0, len(A), MOST_STATES):
            _kernels().backward[len(x), tiles](
                x, dt, A, B, C, gradient, starts, room, of_x, of_dt, *parts, of_A, *sizes, first,
                **_options(T, A, first),
            )  # fmt: skip
            for whole, part in zip((of_B, of_C), parts, strict=True):
                at = slice(first, first + states)
                whole[..., at] = part.sum(0)[..., : len(A) - first]
        return of_x, of_dt, of_A.sum((0, 1), dtype=torch.float64).to(A.dtype), of_B, of_C


def _chunks(length: int, states: int) -> tuple[int, int]:
    """T, a power of two, since each T is compiled by itself, and how many chunks there are."""
    T = _power(max(STEPS, states))
    return T, -(-length // T)


def _states(A: torch.Tensor) -> int:
    return min(MOST_STATES, _power(len(A)))


def _tiles(A: torch.Tensor) -> int:
    return -(-A.shape[1] // CHANNELS)


def _options(T: int, A: torch.Tensor, first: int) -> dict[str, Any]:
    # Fused multiply-adds are asked for, since defaults, and so bits, change between versions.
    options = {"num_warps": WARPS, "enable_fp_fusion": True}
    return {"T": T, "CHANNELS": CHANNELS, "STATES": _states(A), "ADD": first > 0, **options}


def _power(number: int) -> int:
    """The next power of two."""
    return 1 << (number - 1).bit_length()


def _kernels() -> ModuleType:
    """Imported when first launched, since importing them needs Triton."""
    from . import triton_kernels

    return triton_kernels
