"""The selective scan slab by slab, with its backward pass by hand.

A slab is a few sequences x a few states x a few steps x all channels: so many numbers that its
decays exp(dt A), and in the backward pass its states, stay in the cache. Kept for the backward pass
are the states before each piece of T steps, T >= N, which are at most as many numbers as the input;
those of one slab at a time are rebuilt from them. So memory grows with length x channels, not with
length x channels x N. Groups of sequences, which share nothing, may run on threads side by side;
bits do not depend on how many.

What happens inside a slab is `compiled`, or else `blocks`; both work in place on whole arrays:
x (meaning dt x), dt, y (batch, length, D); A (N, D); B, C (batch, length, N); states (batch, N, D).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import torch

SLAB_NUMBERS = 2**18  # 1 MB of float32
STEPS = 64  # of a piece at least
WORTHWHILE = 2**21  # states of all steps from which on threads are worth their start
DEVICE_SLAB = 64  # times as many numbers on a GPU, which wants work more than locality


class Slab(NamedTuple):
    """Sequences [b, b_end), states [n, n_end), steps [t, t_end) of piece `piece`."""

    b: int
    b_end: int
    n: int
    n_end: int
    t: int
    t_end: int
    piece: int

    def shape(self, channels: int) -> tuple[int, int, int, int]:
        """Of its decays: sequences, states, steps, channels."""
        return self.b_end - self.b, self.n_end - self.n, self.t_end - self.t, channels


class Plan(NamedTuple):
    """How (batch, N, length) is cut; several sequences together only where all else is whole."""

    batch: int
    states: int
    length: int
    sequences: int
    block: int
    steps: int

    @classmethod
    def of(cls, batch: int, states: int, length: int, channels: int, device: torch.device) -> Plan:
        """Slabs of about `SLAB_NUMBERS`."""
        numbers = SLAB_NUMBERS * (1 if device.type == "cpu" else DEVICE_SLAB)
        steps = min(length, max(STEPS, states))
        block = min(states, max(1, numbers // (steps * channels)))
        whole = block == states and steps == length
        sequences = max(1, numbers // (steps * channels * states)) if whole else 1
        return cls(batch, states, length, min(batch, sequences), block, steps)

    @property
    def pieces(self) -> int:
        """How many pieces the length is cut into."""
        return -(-self.length // self.steps)

    @property
    def numbers(self) -> int:
        """Of the largest slab, for one channel."""
        return self.sequences * self.block * self.steps

    @property
    def groups(self) -> range:
        """The first sequence of every group; no group needs anything of another."""
        return range(0, self.batch, self.sequences)

    def slabs(self, b: int, backwards: bool = False) -> Iterator[Slab]:
        """Those of the group that begins with sequence b, in the order of time, or the reverse."""
        pieces = range(self.pieces)
        for piece in reversed(pieces) if backwards else pieces:
            for n in range(0, self.states, self.block):
                t = piece * self.steps
                ends = (b + self.sequences, n + self.block, t + self.steps)
                most = (self.batch, self.states, self.length)
                b_end, n_end, t_end = map(min, ends, most)
                yield Slab(b, b_end, n, n_end, t, t_end, piece)

    def threads(self, channels: int, loops: Any) -> int:
        """How many groups to work on at a time: PyTorch's operations have threads of their own, and
        little work is done before one has started."""
        work = self.batch * self.states * self.length * channels
        alone = not loops.ONE_THREAD or work < WORTHWHILE
        return 1 if alone else min(torch.get_num_threads(), len(self.groups))


def run(x: Any, dt: Any, A: Any, B: Any, C: Any, loops: Any) -> torch.Tensor:
    """`selective_scan` of tensors of one precision; `loops` are `compiled` or `blocks`."""
    given = (one.contiguous() for one in (x, dt, A.mT, B, C))
    return _Scan.apply(*given, loops)


class _Scan(torch.autograd.Function):
    """x, dt (batch, length, D), A (N, D), B, C (batch, length, N) to y like x."""

    @staticmethod
    def forward(ctx: Any, x: Any, dt: Any, A: Any, B: Any, C: Any, loops: Any) -> torch.Tensor:
        states, channels = A.shape
        plan = Plan.of(x.shape[0], states, x.shape[1], channels, x.device)
        driven, y = dt * x, torch.zeros_like(x)
        state = x.new_zeros(plan.batch, states, channels)
        before = x.new_empty(plan.pieces, *state.shape)

        def advance(b: int) -> None:
            room = x.new_empty(plan.numbers * channels)
            for slab in plan.slabs(b):
                at = slice(slab.b, slab.b_end), slice(slab.n, slab.n_end)
                before[slab.piece][at] = state[at]
                decays = _part(slab, room, channels)
                loops.decay(decays, dt, A, slab)
                loops.advance(decays, driven, B, C, state, y, slab)

        _all(advance, plan.groups, plan.threads(channels, loops))
        ctx.plan, ctx.loops = plan, loops
        ctx.save_for_backward(x, dt, A, B, C, before)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Any) -> Any:
        x, dt, A, B, C, before = ctx.saved_tensors
        plan, loops = ctx.plan, ctx.loops
        gradient, driven = gradient.contiguous(), dt * x
        behind = x.new_zeros(before.shape[1:])
        of_dt, of_driven = torch.zeros_like(dt), torch.zeros_like(x)
        of_B, of_C = torch.zeros_like(B), torch.zeros_like(C)

        def retreat(b: int) -> list[tuple[Slab, torch.Tensor]]:
            rooms, found = x.new_empty(2, plan.numbers * A.shape[1]), []
            for slab in plan.slabs(b, backwards=True):
                decays, h = (_part(slab, room, A.shape[1]) for room in rooms)
                start = before[slab.piece]
                loops.decay(decays, dt, A, slab)
                loops.rebuild(decays, driven, B, start, h, slab)
                of_slab = loops.retreat(
                    decays, h, start, driven, dt, A, B, C, gradient,
                    behind, of_dt, of_driven, of_B, of_C, slab,
                )  # fmt: skip
                found.append((slab, of_slab))
            return found

        of_rates = torch.zeros_like(A, dtype=torch.float64)  # a sum over many slabs
        # In the order of the slabs, so that no number of threads changes a bit.
        for group in _all(retreat, plan.groups, plan.threads(A.shape[1], loops)):
            for slab, of_slab in group:
                of_rates[slab.n : slab.n_end] += of_slab
        of_dt.addcmul_(of_driven, x)
        return of_driven.mul_(dt), of_dt, of_rates.to(A.dtype), of_B, of_C, None


def _all(function: Callable[[int], Any], groups: range, threads: int) -> Iterable[Any]:
    """What the function gives for every group, in order, so many at a time."""
    if threads == 1:
        return [function(b) for b in groups]

    def without_graph(b: int) -> Any:  # which a thread would begin anew
        with torch.no_grad():
            return function(b)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(without_graph, groups))


def _part(slab: Slab, room: torch.Tensor, channels: int) -> torch.Tensor:
    """A slab's array in the room that all slabs share, contiguous."""
    shape = slab.shape(channels)
    return room[: shape[0] * shape[1] * shape[2] * shape[3]].view(shape)
