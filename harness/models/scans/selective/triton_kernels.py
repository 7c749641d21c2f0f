"""Triton kernels of the selective scan, forward and in reverse time.

A program is one sequence and one tile of `CHANNELS` channels, with `STATES` states of each in
registers; it walks along all steps. A launch is one tile of states; where `ADD`, what it finds is
added to what earlier ones found. Tables of states lie as (sequences, chunks, N, D), chunks of `T`
steps.

Sums over states stay within a program; those over channels are left in one row a tile, for torch to
add. Nothing is summed across programs, so equal inputs give equal bits.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def tile(A, D, N, first, CHANNELS: tl.constexpr, STATES: tl.constexpr):
    """d, n, masks of channels, of states, of both, offset in (N, D), and A (STATES, CHANNELS)."""
    d = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    n = first + tl.arange(0, STATES)
    mask = (n < N)[:, None] & (d < D)[None, :]
    offset = n[:, None] * D + d[None, :]
    return d, n, d < D, n < N, mask, offset, tl.load(A + offset, mask=mask, other=0.0)


@triton.jit
def forward(
    x, dt, A, B, C, y, starts, length, chunks, D, N, first,
    T: tl.constexpr, CHANNELS: tl.constexpr, STATES: tl.constexpr, ADD: tl.constexpr,
):  # fmt: skip
    """y, and into starts the states ahead of each chunk.

    x, dt, y (sequences, length, D); A (N, D); B, C (sequences, length, N).
    """
    d, n, channels, states, mask, offset, rates = tile(A, D, N, first, CHANNELS, STATES)
    sequence = tl.program_id(0).to(tl.int64)
    h = tl.zeros_like(rates)
    row = sequence * length
    for chunk in range(chunks):
        tl.store(starts + (sequence * chunks + chunk) * N * D + offset, h, mask=mask)
        for _ in range(tl.minimum(T, length - chunk * T)):
            dt_t = tl.load(dt + row * D + d, mask=channels, other=0.0)
            driven = dt_t * tl.load(x + row * D + d, mask=channels, other=0.0)
            B_t = tl.load(B + row * N + n, mask=states, other=0.0)
            C_t = tl.load(C + row * N + n, mask=states, other=0.0)
            h = tl.exp(dt_t[None, :] * rates) * h + B_t[:, None] * driven[None, :]
            out = tl.sum(C_t[:, None] * h, 0)
            if ADD:
                out += tl.load(y + row * D + d, mask=channels, other=0.0)
            tl.store(y + row * D + d, out, mask=channels)
            row += 1


@triton.jit
def backward(
    x, dt, A, B, C, gradient, starts, room, of_x, of_dt, of_B, of_C, of_A,
    length, chunks, D, N, first,
    T: tl.constexpr, CHANNELS: tl.constexpr, STATES: tl.constexpr, ADD: tl.constexpr,
):  # fmt: skip
    """Gradients by all inputs, chunk by chunk in reverse time, its states rebuilt ahead of it.

    As in `forward`; gradient, of_x, of_dt like x; of_B, of_C (tiles, sequences, length, STATES) of
    these states; of_A (sequences, chunks, N, D); room (sequences, T, STATES, D): before each step
    of one chunk, the states.
    """
    d, n, channels, states, mask, offset, rates = tile(A, D, N, first, CHANNELS, STATES)
    sequence = tl.program_id(0).to(tl.int64)
    local = tl.arange(0, STATES)
    room += sequence * T * STATES * D + local[:, None] * D + d[None, :]
    rows = tl.program_id(1) * tl.num_programs(0).to(tl.int64) * length  # of tiles before this
    behind = tl.zeros_like(rates)  # exp(dt A) g of the step after
    for back in range(chunks):
        chunk = chunks - 1 - back
        count = tl.minimum(T, length - chunk * T)
        table = (sequence * chunks + chunk) * N * D + offset
        row = sequence * length + chunk * T
        h = tl.load(starts + table, mask=mask, other=0.0)
        for step in range(count):
            tl.store(room + step * STATES * D, h, mask=mask)
            dt_t = tl.load(dt + row * D + d, mask=channels, other=0.0)
            driven = dt_t * tl.load(x + row * D + d, mask=channels, other=0.0)
            B_t = tl.load(B + row * N + n, mask=states, other=0.0)
            h = tl.exp(dt_t[None, :] * rates) * h + B_t[:, None] * driven[None, :]
            row += 1
        tl.debug_barrier()  # other threads of this program may read what one has stored
        of_rates = tl.zeros_like(rates)
        for step in range(count):
            row -= 1
            x_t = tl.load(x + row * D + d, mask=channels, other=0.0)
            dt_t = tl.load(dt + row * D + d, mask=channels, other=0.0)
            g_y = tl.load(gradient + row * D + d, mask=channels, other=0.0)
            B_t = tl.load(B + row * N + n, mask=states, other=0.0)
            C_t = tl.load(C + row * N + n, mask=states, other=0.0)
            last = tl.load(room + (count - 1 - step) * STATES * D, mask=mask, other=0.0)
            driven = (dt_t * x_t)[None, :]
            decay = tl.exp(dt_t[None, :] * rates)
            h = decay * last + B_t[:, None] * driven
            g = behind + C_t[:, None] * g_y[None, :]
            at = (rows + row) * STATES + local
            tl.store(of_C + at, tl.sum(h * g_y[None, :], 1))
            tl.store(of_B + at, tl.sum(g * driven, 1))
            behind = decay * g
            through = behind * last
            of_rates += through * dt_t[None, :]
            of_driven = tl.sum(g * B_t[:, None], 0)
            new_dt = tl.sum(through * rates, 0) + of_driven * x_t
            new_x = of_driven * dt_t
            if ADD:
                new_dt += tl.load(of_dt + row * D + d, mask=channels, other=0.0)
                new_x += tl.load(of_x + row * D + d, mask=channels, other=0.0)
            tl.store(of_dt + row * D + d, new_dt, mask=channels)
            tl.store(of_x + row * D + d, new_x, mask=channels)
        tl.store(of_A + table, of_rates, mask=mask)
        tl.debug_barrier()  # before the room is overwritten
