"""The recurrence of Mamba-2 (Dao and Gu 2024, arXiv 2405.21060): heads of P channels, each with a
scalar decay that changes with time.

`ssd_scan` computes in every head, h_t (P, N) = 0 before the first step,

    h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_t^T,    y_t = h_t C_t

with B_t and C_t common to the heads of a group. Two backends:

- `reference`: step by step under autograd, which keeps every state;
- `chunked`: their section 6, in products of matrices. Within chunks of Q steps y = (L * C B^T) dt x
  with L_ts = exp(A (dt_{s+1} + .. + dt_t)), and between chunks there are only states. Pieces of a
  few chunks are computed one after the other; for the backward pass the states before each are
  kept, and the rest is computed again.

A piece has at least N steps, so what is kept is no more numbers than the input has.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch.nn.functional import pad

from .choice import Choice

BACKENDS = ("reference", "chunked")
CHUNK = 32  # steps of a chunk at most
PIECE_NUMBERS = 2**18  # of the matrices L of a piece, 1 MB of float32
DEVICE_PIECE = 128  # times as many on a GPU, which wants work more than locality


def choose(backend: str) -> Choice:
    """The backend, and why; both run on any device.

    Raises:
        ValueError: an unknown backend.
    """
    if backend not in ("auto", *BACKENDS):
        raise ValueError(f"backend is {backend!r}; use auto, {', '.join(BACKENDS)}")
    if backend != "auto":
        return Choice(backend, "asked for by name")
    return Choice("chunked", "products of matrices, on any device")


def ssd_scan(
    x: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    backend: str = "auto",
) -> torch.Tensor:
    """y (batch, length, heads, P) real from x of the same shape, in the precision of A.

    Args:
        x: the channels' inputs.
        dt: (batch, length, heads), the time steps, not negative.
        A: (heads,), negative rates.
        B, C: (batch, length, G, N); G divides the heads, and group g has the g-th part of them.
        backend: one of `BACKENDS`, or "auto" to let `choose` decide.

    Raises:
        ValueError: an unknown backend.
    """
    name = choose(backend).name
    with torch.autocast(x.device.type, enabled=False):  # a recurrence is always in float32
        x, dt, B, C = (one.to(A.dtype) for one in (x, dt, B, C))
        if name == "reference":
            return reference(x, dt, A, B, C)
        return _Scan.apply(x, dt, A, B, C)


def reference(x: Any, dt: Any, A: Any, B: Any, C: Any) -> torch.Tensor:
    """The recurrence as it is written: slow, any precision, any device; what `chunked` equals."""
    h = x.new_zeros(x.shape[0], *x.shape[2:], B.shape[-1])
    outputs = []
    for x_t, dt_t, B_t, C_t in zip(*(one.unbind(1) for one in (x, dt, B, C)), strict=True):
        h, y = advanced(h, x_t, dt_t, A, B_t, C_t)
        outputs.append(y)
    return torch.stack(outputs, 1)


def advanced(
    h: torch.Tensor, x: Any, dt: Any, A: Any, B: Any, C: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """One step: h (batch, heads, P, N) and y (batch, heads, P) after it, from the state before it
    and this step's x (batch, heads, P), dt (batch, heads), B and C (batch, G, N)."""
    B, C = (one.repeat_interleave(x.shape[1] // one.shape[1], 1)[:, :, None] for one in (B, C))
    decay = torch.exp(dt * A)[..., None, None]
    h = decay * h + (dt[..., None] * x)[..., None] * B
    return h, (h * C).sum(-1)


class _Plan(NamedTuple):
    """How (batch, length) is cut: into pieces of some sequences and some chunks of some steps."""

    batch: int
    length: int
    sequences: int
    chunks: int
    steps: int

    @classmethod
    def of(cls, x: torch.Tensor, states: int) -> _Plan:
        """Pieces of about `PIECE_NUMBERS`."""
        batch, length, heads, _ = x.shape
        most = PIECE_NUMBERS * (1 if x.device.type == "cpu" else DEVICE_PIECE)
        steps = min(length, CHUNK)
        matrices = heads * steps * steps
        least = -(-states // steps)
        sequences = min(batch, max(1, most // (matrices * least)))
        chunks = max(least, most // (matrices * sequences))
        return cls(batch, length, sequences, min(chunks, -(-length // steps)), steps)

    @property
    def pieces(self) -> int:
        """How many pieces the length is cut into."""
        return -(-self.length // (self.chunks * self.steps))

    def sequence_slices(self) -> Iterator[slice]:
        """The sequences that are computed together."""
        for b in range(0, self.batch, self.sequences):
            yield slice(b, b + self.sequences)

    def steps_of(self, piece: int) -> slice:
        """The steps of a piece."""
        whole = self.chunks * self.steps
        return slice(piece * whole, (piece + 1) * whole)


class _Scan(torch.autograd.Function):
    """`ssd_scan` of tensors of one precision, piece by piece."""

    @staticmethod
    def forward(ctx: Any, x: Any, dt: Any, A: Any, B: Any, C: Any) -> torch.Tensor:
        plan, y = _Plan.of(x, B.shape[-1]), torch.empty_like(x)
        state = (len(x), x.shape[2], x.shape[3], B.shape[3])
        before = x.new_empty(plan.pieces, *state)
        for b in plan.sequence_slices():
            h = x.new_zeros(state)[b]
            for piece in range(plan.pieces):
                at = b, plan.steps_of(piece)
                before[piece, b] = h
                y[at], h = _piece(plan.steps, x[at], dt[at], A, B[at], C[at], h)
        ctx.plan = plan
        ctx.save_for_backward(x, dt, A, B, C, before)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Any) -> Any:
        x, dt, A, B, C, before = ctx.saved_tensors
        plan, of_rates = ctx.plan, torch.zeros_like(A, dtype=torch.float64)
        found = [torch.empty_like(one) for one in (x, dt, B, C)]
        for b in plan.sequence_slices():
            behind = torch.zeros_like(before[0, b])
            for piece in reversed(range(plan.pieces)):
                at = b, plan.steps_of(piece)
                given = x[at], dt[at], A, B[at], C[at], before[piece, b]
                leaves = [one.detach().requires_grad_() for one in given]
                with torch.enable_grad():
                    ends = _piece(plan.steps, *leaves)
                parts = torch.autograd.grad(ends, leaves, (gradient[at], behind))
                of_x, of_dt, of_A, of_B, of_C, behind = parts
                for whole, part in zip(found, (of_x, of_dt, of_B, of_C), strict=True):
                    whole[at] = part
                of_rates += of_A
        of_x, of_dt, of_B, of_C = found
        return of_x, of_dt, of_rates.to(A.dtype), of_B, of_C


def _piece(
    steps: int, x: torch.Tensor, dt: Any, A: Any, B: Any, C: Any, h: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """y of some steps, (b, T, heads, P), and the state after them, from that before them, (b,
    heads, P, N), in k chunks of Q = `steps`."""
    (b, T, heads, P), (G, N) = x.shape, B.shape[2:]
    k, E = -(-T // steps), heads // G
    x, dt, B, C = (_padded(one, k * steps) for one in (x, dt, B, C))  # a step of 0 changes nothing
    shape = (b, k, steps, G, E)
    # In double precision: differences of sums, after steps whose decay has underflowed.
    passed = (dt * A).view(shape).double().cumsum(2).permute(0, 1, 3, 4, 2)  # (b, k, G, E, Q)
    driven = (dt[..., None] * x).view(*shape, P).permute(0, 1, 3, 4, 2, 5)  # (b, k, G, E, Q, P)
    B, C = (one.view(b, k, steps, G, N).transpose(2, 3) for one in (B, C))  # (b, k, G, Q, N)
    # A difference of equal sums is a constant, lest its gradient be rounding.
    fixed = torch.full((steps, steps), -torch.inf, dtype=x.dtype, device=x.device).triu(1)
    between = (passed[..., :, None] - passed[..., None, :]).to(x.dtype)
    L = torch.where(fixed.mT < 0, between, fixed).exp()
    y = ((C @ B.mT)[:, :, :, None] * L) @ driven
    to_end = pad((passed[..., -1:] - passed[..., :-1]).to(x.dtype), (0, 1)).exp()
    added = (driven * to_end[..., None]).mT.reshape(b, k, G, E * P, steps) @ B
    since = passed.to(x.dtype).exp()  # (b, k, G, E, Q)
    starts = []
    for chunk, decay in zip(added.unbind(1), since[..., -1].unbind(1), strict=True):
        starts.append(h.reshape(b, G, E * P, N))
        h = decay.reshape(b, heads, 1, 1) * h + chunk.reshape(b, heads, P, N)
    past = C @ torch.stack(starts, 1).mT  # (b, k, G, Q, E P)
    past = past.view(b, k, G, steps, E, P).transpose(3, 4)
    y = torch.addcmul(y, since[..., None], past).permute(0, 1, 4, 2, 3, 5)
    return y.reshape(b, k * steps, heads, P)[:, :T], h


def _padded(value: torch.Tensor, length: int) -> torch.Tensor:
    """(b, T, ...) with zeros behind it."""
    missing = length - value.shape[1]
    return pad(value, (0, 0) * (value.dim() - 2) + (0, missing)) if missing else value


__all__ = ["BACKENDS", "Choice", "advanced", "choose", "reference", "ssd_scan"]
