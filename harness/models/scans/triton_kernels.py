"""Triton kernels of the chunked complex scan, forward and in reverse time.

Layout: *planes* are one real matrix (sequences x steps, 2N), real parts in columns 0..N-1 and
imaginary ones after them, so that the projections on both sides are one real product each. Time
is cut into chunks of `T` steps. A scan is three launches: each chunk from zero, of which only the
state it ends with is kept (`chunk_ends`); those carried over the chunks (`carry`); each chunk
again from its true start, in place (`apply`, or `adjoint` for gradients). The planes are read
twice and written once; each state is one thread, each chunk one program, and every load is a row
of `BLOCK` neighbouring numbers.

The state is kept in the type of the boundary tables (float32; float64 for checks), whatever the
planes are stored in. Nothing is summed across programs, so equal inputs give equal bits.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def multiply_add(a_re, a_im, h_re, h_im, x_re, x_im):
    """a h + x, complex, by real and imaginary parts."""
    return a_re * h_re - a_im * h_im + x_re, a_re * h_im + a_im * h_re + x_im


@triton.jit
def pair(pointer, N, mask):
    """The real and imaginary parts of one row, in the type they are stored in."""
    return tl.load(pointer, mask=mask, other=0.0), tl.load(pointer + N, mask=mask, other=0.0)


@triton.jit
def put(pointer, re, im, N, mask):
    """Store a row's real and imaginary parts, rounded to the type of the table."""
    tl.store(pointer, re.to(pointer.dtype.element_ty), mask=mask)
    tl.store(pointer + N, im.to(pointer.dtype.element_ty), mask=mask)


@triton.jit
def position(steps, chunks, N, T: tl.constexpr, BLOCK: tl.constexpr, REVERSE: tl.constexpr):
    """Where this program of a (sequences, chunks, tiles) grid works.

    Returns (columns, mask, offset of its first row in the planes, signed row stride, rows,
    offset of its row in a boundary table); in reverse time the first row is the chunk's last.
    """
    sequence, chunk = tl.program_id(0), tl.program_id(1)
    n = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    count = tl.minimum(T, steps - chunk * T)
    row = sequence.to(tl.int64) * steps + chunk * T
    stride = 2 * N
    if REVERSE:
        row += count - 1
        stride = -2 * N
    boundary = (sequence.to(tl.int64) * chunks + chunk) * 2 * N + n
    return n, n < N, row * 2 * N + n, stride, count, boundary


@triton.jit
def chunk_ends(
    planes, lam, ends, steps, chunks, N,
    T: tl.constexpr, BLOCK: tl.constexpr, REVERSE: tl.constexpr,
):  # fmt: skip
    """ends (sequences, chunks, 2N): the state each chunk reaches from zero.

    planes (sequences, steps, 2N); lam (2, N), conjugated by the caller for reverse time.
    """
    n, mask, offset, stride, count, boundary = position(steps, chunks, N, T, BLOCK, REVERSE)
    a_re, a_im = pair(lam + n, N, mask)
    h_re, h_im = tl.zeros_like(a_re), tl.zeros_like(a_im)
    x_re, x_im = pair(planes + offset, N, mask)
    for step in range(count):
        # The next row is asked for before this one is used, so that its way is not waited for.
        offset += stride
        next_re, next_im = pair(planes + offset, N, n < tl.where(step + 1 < count, N, 0))
        h_re, h_im = multiply_add(a_re, a_im, h_re, h_im, x_re.to(a_re.dtype), x_im.to(a_re.dtype))
        x_re, x_im = next_re, next_im
    put(ends + boundary, h_re, h_im, N, mask)


@triton.jit
def carry(
    ends, lam_T, before, after, chunks, N, BLOCK: tl.constexpr, REVERSE: tl.constexpr
):  # fmt: skip
    """In place, from each chunk's end reached from zero to its true start.

    ends (sequences, chunks, 2N); lam_T (2, N) is Lambda^T; before, after (sequences, 2N): the
    state before the first chunk, and after the last if that is a whole one.
    """
    sequence = tl.program_id(0).to(tl.int64)
    n = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = n < N
    a_re, a_im = pair(lam_T + n, N, mask)
    s_re, s_im = pair(before + sequence * 2 * N + n, N, mask)
    stride = 2 * N
    offset = sequence * chunks * 2 * N + n
    if REVERSE:
        stride = -2 * N
        offset += (chunks - 1) * 2 * N
    e_re, e_im = pair(ends + offset, N, mask)
    for chunk in range(chunks):
        next_re, next_im = pair(ends + offset + stride, N, n < tl.where(chunk + 1 < chunks, N, 0))
        put(ends + offset, s_re, s_im, N, mask)
        s_re, s_im = multiply_add(a_re, a_im, s_re, s_im, e_re, e_im)
        e_re, e_im = next_re, next_im
        offset += stride
    put(after + sequence * 2 * N + n, s_re, s_im, N, mask)


@triton.jit
def apply(
    planes, lam, starts, steps, chunks, N, T: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """In place, from drive to states: h_k = lam h_{k-1} + x_k, each chunk from its start.

    planes (sequences, steps, 2N); lam (2, N); starts (sequences, chunks, 2N).
    """
    n, mask, offset, stride, count, boundary = position(steps, chunks, N, T, BLOCK, False)
    a_re, a_im = pair(lam + n, N, mask)
    h_re, h_im = pair(starts + boundary, N, mask)
    x_re, x_im = pair(planes + offset, N, mask)
    for step in range(count):
        following = n < tl.where(step + 1 < count, N, 0)
        next_re, next_im = pair(planes + offset + stride, N, following)
        h_re, h_im = multiply_add(a_re, a_im, h_re, h_im, x_re.to(a_re.dtype), x_im.to(a_re.dtype))
        put(planes + offset, h_re, h_im, N, mask)
        x_re, x_im = next_re, next_im
        offset += stride


@triton.jit
def adjoint(
    planes, lam, starts, states, before, sums, steps, chunks, N,
    T: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """In place, from dL/dy through C to dL/dh: g_k = conj(Lambda) g_{k+1} + x_k; and on the way
    each chunk's part of dL/dLambda, the sum of g_k conj(h_{k-1}), while both are at hand.

    planes, states (sequences, steps, 2N); lam (2, N) conjugated; starts, before, sums
    (sequences, chunks, 2N): g after each chunk, h before it, and the sums of this kernel.
    """
    n, mask, offset, stride, count, boundary = position(steps, chunks, N, T, BLOCK, True)
    a_re, a_im = pair(lam + n, N, mask)
    g_re, g_im = pair(starts + boundary, N, mask)
    first_re, first_im = pair(before + boundary, N, mask)
    sum_re, sum_im = tl.zeros_like(a_re), tl.zeros_like(a_im)
    x_re, x_im = pair(planes + offset, N, mask)
    for step in range(count):
        following = n < tl.where(step + 1 < count, N, 0)
        next_re, next_im = pair(planes + offset + stride, N, following)
        h_re, h_im = pair(states + offset + stride, N, following)  # zero ahead of the chunk,
        is_first = step + 1 == count
        h_re = tl.where(is_first, first_re, h_re.to(a_re.dtype))  # where the boundary stands in
        h_im = tl.where(is_first, first_im, h_im.to(a_re.dtype))
        g_re, g_im = multiply_add(a_re, a_im, g_re, g_im, x_re.to(a_re.dtype), x_im.to(a_re.dtype))
        sum_re, sum_im = multiply_add(g_re, g_im, h_re, -h_im, sum_re, sum_im)
        put(planes + offset, g_re, g_im, N, mask)
        x_re, x_im = next_re, next_im
        offset += stride
    put(sums + boundary, sum_re, sum_im, N, mask)
