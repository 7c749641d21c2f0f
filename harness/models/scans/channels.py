"""The linear recurrence of many small systems, one for each channel.

`channel_scan` computes y = Re(sum_n C_n h_n) with h_k = lambda h_{k-1} + B u_k in every channel,
h = 0 before the first input, lambda = exp(-nu + i theta). Three backends:

- `reference`: the recurrence, step by step;
- `fft`: the impulse response by a Vandermonde product (of powers of lambda^T and of lambda, T about
  the root of the length), and one convolution in frequency;
- `blocks`: inside blocks of T steps a Toeplitz product of the impulse response; between them the
  states, by the loops of the scan backend.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn.functional import pad

from . import loops
from .choice import Choice
from .powers import polar
from .toeplitz import block_steps

BACKENDS = ("reference", "fft", "blocks")
# Where blocks are the faster, measured on one core of a CPU; see the README.
FEW = 8  # states
MANY = 2**17  # numbers of a sequence


def choose(backend: str, *, width: int, state_dim: int, length: int, device: Any) -> Choice:
    """The backend for sequences of this shape, and why. Raises `ValueError` for an unknown one."""
    if backend not in ("auto", *BACKENDS):
        raise ValueError(f"backend is {backend!r}; use auto, {', '.join(BACKENDS)}")
    if backend != "auto":
        return Choice(backend, "asked for by name")
    if torch.device(device).type == "cuda":
        return Choice("fft", "a GPU, where launches are the cost: it needs the fewest")
    if state_dim <= FEW or width * length >= MANY:
        return Choice(
            "blocks", f"{state_dim} states, {width * length} numbers: products are faster"
        )
    return Choice("fft", f"{state_dim} states, {width * length} numbers: a transform is faster")


def channel_scan(
    nu: torch.Tensor,
    theta: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    u: torch.Tensor,
    backend: str = "auto",
) -> torch.Tensor:
    """y (batch, length, H) real from u (batch, length, H) real.

    Args:
        nu, theta: (H, N) float64, -log|lambda| > 0 and phases in radians.
        B, C: (H, N) complex, in the precision of u.
        backend: one of `BACKENDS`, or "auto" to let `choose` decide.

    Raises:
        ValueError: an unknown backend.
    """
    shape = {"width": u.shape[2], "state_dim": nu.shape[1], "length": u.shape[1]}
    name = choose(backend, **shape, device=u.device).name
    with torch.autocast(u.device.type, enabled=False):  # a recurrence is always in float32
        return _RUNS[name](nu, theta, B, C, u.to(C.real.dtype))


def _reference(nu: Any, theta: Any, B: Any, C: Any, u: torch.Tensor) -> torch.Tensor:
    lam = _powers(nu, theta, torch.ones(1, device=u.device), B.dtype)[0]
    h = B.new_zeros(len(u), *B.shape)
    outputs = []
    for step in u.unbind(1):
        h = lam * h + B * step[..., None]
        outputs.append((C * h).sum(-1).real)
    return torch.stack(outputs, 1)


def _fft(nu: Any, theta: Any, B: Any, C: Any, u: torch.Tensor) -> torch.Tensor:
    length = u.shape[1]
    T = math.ceil(math.sqrt(length))
    k = torch.arange(T, device=u.device)
    fine = _powers(nu, theta, k, B.dtype).permute(1, 2, 0)  # (H, N, T)
    coarse = (_powers(nu, theta, T * k, B.dtype) * (B * C)).permute(1, 0, 2)  # (H, T, N)
    left = torch.cat([coarse.real, -coarse.imag], -1)
    kernel = (left @ torch.cat([fine.real, fine.imag], 1)).flatten(1)[:, :length]
    size = 2 * length
    spectrum = torch.fft.rfft(u.mT, size) * torch.fft.rfft(kernel, size)
    return torch.fft.irfft(spectrum, size)[..., :length].mT


def _blocks(nu: Any, theta: Any, B: Any, C: Any, u: torch.Tensor) -> torch.Tensor:
    batch, length, width = u.shape
    n = B.shape[1]
    T = block_steps(1, n, length)
    blocks = -(-length // T)
    lam = _powers(nu, theta, torch.arange(T + 1, device=u.device), B.dtype)  # (T + 1, H, N)
    x = pad(u, (0, 0, 0, blocks * T - length)).view(batch, blocks, T, width)
    x = x.permute(3, 0, 1, 2).reshape(width, batch * blocks, T)
    y = x @ _within(lam[:T], B * C)
    if blocks > 1:
        into = (lam[:T].flip(0) * B).permute(1, 0, 2)  # (H, T, N)
        own = x @ torch.cat([into.real, into.imag], -1)
        columns = own.view(width, batch, blocks, 2, n).permute(1, 2, 3, 0, 4)
        step = torch.stack([lam[T].real, lam[T].imag]).flatten(1)
        states = _Carried.apply(columns.reshape(batch, blocks, -1), step)
        before = pad(states[:, :-1], (0, 0, 1, 0)).view(batch, blocks, 2, width, n)
        before = before.permute(3, 0, 1, 2, 4).reshape(width, batch * blocks, 2 * n)
        out = (lam[1:] * C).permute(1, 2, 0)  # (H, N, T)
        y = y + before @ torch.cat([out.real, -out.imag], 1)
    y = y.view(width, batch, blocks * T).permute(1, 2, 0)
    return y[:, :length]


def _within(lam: torch.Tensor, BC: torch.Tensor) -> torch.Tensor:
    """(H, T, T), inputs by outputs of a block: the impulse response at lags 0 to T - 1."""
    T = len(lam)
    kernel = pad((lam * BC).sum(-1).real.mT, (0, 1))  # the last one is for what is to come
    k = torch.arange(T, device=lam.device)
    lag = k[None, :] - k[:, None]
    return kernel[:, torch.where(lag >= 0, lag, T)]


class _Carried(torch.autograd.Function):
    """h_t = Lambda h_{t-1} + drive_t: drive (S, T, 2 N), Lambda (2, N), real parts first."""

    @staticmethod
    def forward(ctx: Any, drive: torch.Tensor, lam: torch.Tensor) -> torch.Tensor:
        h, lam = drive.clone(memory_format=torch.contiguous_format), lam.contiguous()
        loops.advance(h, lam, h.new_zeros(h.shape[0], h.shape[2]))
        ctx.save_for_backward(h, lam)
        return h

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h, lam = ctx.saved_tensors
        g = gradient.clone(memory_format=torch.contiguous_format)
        nothing = g.new_zeros(g.shape[0], g.shape[2])
        d_lam = loops.retreat(g, lam, nothing, h, torch.zeros_like(nothing))
        return g, d_lam


def _powers(nu: Any, theta: Any, k: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """lambda^k, (len(k), H, N): taken in double precision, held in another."""
    k = k.double()[:, None, None]
    return polar(torch.exp(-nu * k), theta * k).to(dtype)


_RUNS = {"reference": _reference, "fft": _fft, "blocks": _blocks}
