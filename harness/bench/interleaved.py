"""Interleaved rounds, A B C A B C ..., so that changes of a machine's speed affect all cases."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Call = Callable[[], Any]
MOST_ROUNDS = 100_000


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of some rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """The spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Rounds:
    """Seconds per call, by case, one entry per round; and seconds of each case's first call."""

    seconds: dict[str, list[float]]
    first: dict[str, float]

    def spread(self, case: str) -> Spread:
        """Seconds per call of `case`."""
        return Spread.of(self.seconds[case])

    def ratio(self, above: str, below: str) -> Spread:
        """Seconds of `above` over seconds of `below`, paired by round."""
        pairs = zip(self.seconds[above], self.seconds[below], strict=True)
        return Spread.of([a / b for a, b in pairs])

    def rate(self, case: str, work: float) -> Spread:
        """Units of work per second, if a call does `work` units."""
        return Spread.of([work / s for s in self.seconds[case]])

    def share(self, case: str, work: float, ceiling: str, ceiling_work: float) -> Spread:
        """The rate of `case` over that of `ceiling`, paired by round."""
        factor = work / ceiling_work
        pairs = zip(self.seconds[ceiling], self.seconds[case], strict=True)
        return Spread.of([factor * above / below for above, below in pairs])


def interleave(
    cases: Mapping[str, Call],
    rounds: int,
    *,
    turn: float = 0.0,
    wait: Call = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Rounds:
    """Time all cases in turn, `rounds` times over, after one call of each that does not count.

    Args:
        turn: minimum seconds of a turn; a short case is called several times in it.
        wait: waits until the device has finished all its work.

    Raises:
        ValueError: no cases, or a bad number of rounds.
    """
    if not cases:
        raise ValueError("there is nothing to measure")
    check_rounds(rounds)
    first = {name: seconds_of(call, wait, clock=clock) for name, call in cases.items()}
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, call in cases.items():
            seconds[name].append(seconds_of(call, wait, turn, clock))
    return Rounds(seconds, first)


def check_rounds(rounds: int) -> None:
    """Raise ValueError unless the number of rounds is sensible."""
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, not {rounds}")
    if rounds > MOST_ROUNDS:
        raise ValueError(f"rounds must be at most {MOST_ROUNDS}, not {rounds}")


def seconds_of(
    call: Call,
    wait: Call,
    turn: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Mean seconds of calls that together last at least `turn`; of one call if `turn` is 0.

    The clock is read after one call, two more, four more, and so on. On a GPU, reading it waits
    for the device, which training does not do after every step.
    """
    calls, burst = 0, 1
    begin = clock()
    while True:
        for _ in range(burst):
            call()
        wait()
        calls += burst
        burst *= 2
        elapsed = clock() - begin
        if elapsed >= turn:
            return elapsed / calls
