"""Large widths on a GPU: real projections by cuBLAS around a chunked scan in Triton.

Real and imaginary parts are the halves of one real matrix (see `triton_kernels`), so each side is
one product, and the scan runs in place on what the product wrote. The backward is the reverse-time
scan, in place too, which sums the gradient of Lambda on its way. Triton's interpreter
(TRITON_INTERPRET=1) runs the same kernels on a CPU.
"""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from .triton_launch import Scan

REMEMBER_BYTES = 2**30  # states of one layer above this are rebuilt rather than kept


def unavailable(device: torch.device | str) -> str | None:
    """Why this backend cannot run on this device; None where it can."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return None
    if not torch.cuda.is_available():
        return "no CUDA GPU"
    if torch.device(device).type != "cuda":
        return f"it needs a CUDA GPU, not the {device}"
    return None


def run(
    nu: torch.Tensor,
    theta: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    u: torch.Tensor,
    remember: str = "auto",
) -> torch.Tensor:
    """`lru_scan` with a float32 recurrence (float64 if u is); see there for the arguments.

    Under bfloat16 autocast the two products, and the states in memory that lie between them, are
    bfloat16; the state that the recurrence carries on is float32 all the same.
    """
    device = u.device.type
    products = u.dtype
    if torch.is_autocast_enabled(device):
        products = torch.get_autocast_dtype(device)
        u = u.float()
    elif products not in (torch.float32, torch.float64):
        raise ValueError(f"u is {products}; the recurrence is in float32 or float64")
    with torch.autocast(device, enabled=False), torch.cuda.device_of(u):
        size = 2 * len(nu) * u.shape[0] * u.shape[1] * products.itemsize
        keep = torch.is_grad_enabled() and keeps_states(remember, size)
        return TritonScan.apply(nu, theta, B, C, u, products, keep)


class TritonScan(torch.autograd.Function):
    """y = Re(C h) and its gradients, piece by piece."""

    @staticmethod
    def forward(
        ctx: Any,
        nu: torch.Tensor,
        theta: torch.Tensor,
        B: torch.Tensor,
        C: torch.Tensor,
        u: torch.Tensor,
        products: torch.dtype,
        keep: bool,
    ) -> torch.Tensor:
        batch, length, _ = u.shape
        scan = Scan(nu, theta, batch, length, u)
        inward, outward = matrices(B, C, products)
        rows = u.flatten(0, 1)
        y = torch.empty_like(rows, memory_format=torch.contiguous_format)
        states = rows.new_empty(rows.shape[0] if keep else 0, inward.shape[0], dtype=products)
        starts = scan.table()
        scan.begin_forward()
        for piece in scan.pieces:
            drive = states[piece.rows] if keep else None
            h = torch.mm(rows[piece.rows].to(products), inward.mT, out=drive)
            scan.forward(piece, h, starts)
            multiply(h, outward.mT, y[piece.rows])
        ctx.save_for_backward(nu, theta, B, C, u, states, starts)
        ctx.products, ctx.keep = products, keep
        return y.view_as(u)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        nu, theta, B, C, u, states, starts = ctx.saved_tensors
        batch, length, _ = u.shape
        with torch.cuda.device_of(u):
            scan = Scan(nu, theta, batch, length, u)
            inward, outward = matrices(B, C, ctx.products)
            rows, slopes = u.flatten(0, 1), dy.flatten(0, 1)
            du = torch.empty_like(rows, memory_format=torch.contiguous_format)
            d_inward = torch.zeros_like(inward, dtype=u.dtype)
            d_outward = torch.zeros_like(outward, dtype=u.dtype)
            scan.begin_backward()
            for piece in reversed(scan.pieces):
                x = rows[piece.rows].to(ctx.products)
                slope = slopes[piece.rows].to(ctx.products)
                if ctx.keep:
                    h = states[piece.rows]
                else:
                    h = x @ inward.mT
                    scan.apply(piece, h, starts)
                d_outward += slope.mT @ h
                g = slope @ outward
                scan.backward(piece, g, h, starts)
                d_inward += g.mT @ x
                multiply(g, inward, du[piece.rows])
        d_nu, d_theta = scan.gradients()
        dB = torch.complex(*d_inward.chunk(2, dim=0))
        dC = torch.complex(*d_outward.chunk(2, dim=1)).conj().resolve_conj()
        return d_nu, d_theta, dB, dC, du.view_as(u), None, None


def multiply(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> None:
    """a @ b straight into `out`, or by way of the type of the products."""
    if a.dtype == out.dtype:
        torch.mm(a, b, out=out)
    else:
        out.copy_(a @ b)


def matrices(
    B: torch.Tensor, C: torch.Tensor, products: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """(2N, H) and (H, 2N) real: u to the planes, and the planes to Re(C h)."""
    inward, outward = torch.cat((B.real, B.imag), 0), torch.cat((C.real, -C.imag), 1)
    return inward.to(products), outward.to(products)


def keeps_states(remember: str, size: int) -> bool:
    """Whether the backward finds all states, of `size` bytes, or rebuilds them from boundaries."""
    if remember == "auto":
        return size <= REMEMBER_BYTES
    return remember == "states"
