"""Large widths: real projections around a scan in place, slab by slab, backward by hand.

A slab is so many steps of one sequence, or so many whole short sequences, that its states stay in
the cache between the product that drives them, the scan, and the product that reads them. Real
and imaginary parts are one matrix of 2 N columns. What the backward pass finds is every state, or
(`remember="boundaries"`) only the state before each slab, from which it rebuilds one slab at a
time: memory that does not grow with length x N, for one more product in seven to ten.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from . import loops

SLAB_NUMBERS = 2**20  # 4 MB of float32 states: within the cache of two cores
SLAB_ROWS = (256, 2048)  # fewer starve the matrix products, more leave the cache
DEVICE_SLAB = 64  # times as many on a GPU, which wants work more than locality
STATES_BYTES = 2**28  # what "auto" lets the states of one layer take


class Slab(NamedTuple):
    """Sequences [b, b_end) at steps [t, t_end); all steps where there are several sequences."""

    b: int
    b_end: int
    t: int
    t_end: int

    def rows(self, x: torch.Tensor) -> torch.Tensor:
        """The slab's part of (batch, length, columns), as a matrix; no copy of contiguous x."""
        return x[self.b : self.b_end, self.t : self.t_end].flatten(0, 1)

    def shaped(self, rows: torch.Tensor) -> torch.Tensor:
        """(sequences, steps, columns) from the matrix."""
        return rows.view(self.b_end - self.b, self.t_end - self.t, rows.shape[1])


class Plan(NamedTuple):
    """How a (batch, length) of N states is cut."""

    batch: int
    length: int
    sequences: int
    steps: int

    @classmethod
    def of(cls, batch: int, length: int, state_dim: int, device: torch.device) -> Plan:
        """Slabs of about `SLAB_NUMBERS`."""
        least, most = SLAB_ROWS
        rows = min(most, max(least, SLAB_NUMBERS // (2 * state_dim)))
        rows *= 1 if device.type == "cpu" else DEVICE_SLAB
        pieces = -(-length // rows)
        return cls(batch, length, max(1, min(batch, rows // length)), -(-length // pieces))

    def groups(self) -> list[list[Slab]]:
        """Per group of sequences, its slabs in the order of time."""
        return [list(self._group(b)) for b in range(0, self.batch, self.sequences)]

    def _group(self, b: int) -> Iterator[Slab]:
        for t in range(0, self.length, self.steps):
            b_end, t_end = min(self.batch, b + self.sequences), min(self.length, t + self.steps)
            yield Slab(b, b_end, t, t_end)


def run(
    nu: torch.Tensor,
    theta: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    u: torch.Tensor,
    remember: str = "auto",
) -> torch.Tensor:
    """`lru_scan` through all states, in slabs."""
    magnitude = torch.exp(-nu)
    lam = torch.stack([magnitude * torch.cos(theta), magnitude * torch.sin(theta)])
    into = torch.cat([B.real, B.imag])
    out = torch.cat([C.real, -C.imag], dim=1)
    return _Scan.apply(lam, into, out, u.contiguous(), keeps_states(remember, nu, u))


def keeps_states(remember: str, nu: torch.Tensor, u: torch.Tensor) -> bool:
    """Whether all states are kept for the backward pass; "auto" decides by their bytes."""
    size = u.shape[0] * u.shape[1] * 2 * nu.shape[0] * u.element_size()
    return remember == "states" or (remember == "auto" and size <= STATES_BYTES)


class _Scan(torch.autograd.Function):
    """lam (2, N), into (2 N, H), out (H, 2 N), u (batch, length, H) to y like u.

    Where u alone wants a gradient, as when a truncation looks at data, no state is kept or rebuilt.
    """

    @staticmethod
    def forward(ctx: Any, lam: Any, into: Any, out: Any, u: Any, keep: bool) -> Any:
        plan = Plan.of(u.shape[0], u.shape[1], lam.shape[1], u.device)
        keep = keep and any(ctx.needs_input_grad[:3])
        columns = into.shape[0]
        pieces = -(-plan.length // plan.steps)
        kept = u.new_empty(*u.shape[:2], columns) if keep else None
        scratch = u.new_empty(0 if keep else plan.sequences * plan.steps, columns)
        before = u.new_zeros(pieces, u.shape[0], columns)
        y = torch.empty_like(u)
        for group in plan.groups():
            state = u.new_zeros(group[0].b_end - group[0].b, columns)
            for i, slab in enumerate(group):
                before[i, slab.b : slab.b_end] = state
                rows = slab.rows(u)
                h = scratch[: len(rows)] if kept is None else slab.rows(kept)
                _drive(slab, rows, into, lam, state, h)
                torch.mm(h, out.t(), out=slab.rows(y))
        ctx.plan = plan
        ctx.save_for_backward(lam, into, out, u, before, kept)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Any) -> Any:
        if any(ctx.needs_input_grad[:3]):
            return _all_gradients(ctx, gradient.contiguous())
        return None, None, None, _gradient_of_u(ctx, gradient.contiguous()), None


def _all_gradients(ctx: Any, gradient: Any) -> Any:
    lam, into, out, u, before, kept = ctx.saved_tensors
    plan: Plan = ctx.plan
    columns = into.shape[0]
    g_slab = u.new_empty(plan.sequences * plan.steps, columns)
    h_slab = g_slab.new_empty(g_slab.shape if kept is None else (0, columns))
    # Sums over many slabs: in double precision where they are small.
    d_lam = torch.zeros_like(lam, dtype=torch.float64)
    d_into, d_out, d_u = torch.zeros_like(into), torch.zeros_like(out), torch.empty_like(u)
    for group in plan.groups():
        behind = u.new_zeros(group[0].b_end - group[0].b, columns)
        for i, slab in reversed(list(enumerate(group))):
            rows, g_rows, start = (
                slab.rows(u),
                slab.rows(gradient),
                before[i, slab.b : slab.b_end],
            )
            if kept is None:
                h = h_slab[: len(rows)]
                _drive(slab, rows, into, lam, start.clone(), h)
            else:
                h = slab.rows(kept)
            g = torch.mm(g_rows, out, out=g_slab[: len(rows)])
            d_lam += loops.retreat(slab.shaped(g), lam, behind, slab.shaped(h), start)
            torch.addmm(d_out, g_rows.t(), h, out=d_out)
            torch.addmm(d_into, g.t(), rows, out=d_into)
            torch.mm(g, into, out=slab.rows(d_u))
    return d_lam.to(lam.dtype), d_into, d_out, d_u, None


def _gradient_of_u(ctx: Any, gradient: Any) -> Any:
    """Without any product with a state."""
    lam, into, out, u, _, _ = ctx.saved_tensors
    g_slab = u.new_empty(ctx.plan.sequences * ctx.plan.steps, into.shape[0])
    d_u = torch.empty_like(u)
    for group in ctx.plan.groups():
        behind = u.new_zeros(group[0].b_end - group[0].b, into.shape[0])
        for slab in reversed(group):
            g_rows = slab.rows(gradient)
            g = torch.mm(g_rows, out, out=g_slab[: len(g_rows)])
            loops.recede(slab.shaped(g), lam, behind)
            torch.mm(g, into, out=slab.rows(d_u))
    return d_u


def _drive(slab: Slab, u: Any, into: Any, lam: Any, state: Any, h: Any) -> None:
    """States of a slab into h, from the state before it, which becomes its last one."""
    torch.mm(u, into.t(), out=h)
    loops.advance(slab.shaped(h), lam, state)
