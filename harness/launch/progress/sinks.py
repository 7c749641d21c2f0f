"""Progress on standard error: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from harness.tools.notes import mute_what_is_closed

from .jobs import Outcome

if TYPE_CHECKING:
    from rich.console import RenderableType

LINES_EVERY = 15.0  # seconds between the notes of LineProgress


@dataclass(frozen=True)
class Running:
    """A trial under way, as far as it has told. `metric` is the newest validation value."""

    trial_id: str
    label: str
    seed: int
    seconds: float
    attempt: int = 1
    step: int | None = None
    steps: int | None = None
    metric: float | None = None
    state_dims: tuple[int, ...] = ()
    left: float | None = None

    def describe(self) -> str:
        """Step, metric and state dimensions in a few words."""
        if self.step is None or not self.steps:
            return "starting"
        parts = [f"step {self.step}/{self.steps}"]
        if self.metric is not None:
            parts.append(f"metric {self.metric:.4g}")
        parts.append(f"states {list(self.state_dims)}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Ended:
    """A trial that has ended."""

    trial_id: str
    label: str
    seed: int
    outcome: Outcome


@dataclass(frozen=True)
class Snapshot:
    """Where the launch stands. `ended` holds every ended trial, oldest first; `eta` is seconds;
    `note` is what the jobs say of the whole; `reason` is what a trial that could run waits for."""

    ended: tuple[Ended, ...]
    running: tuple[Running, ...]
    waiting: int
    elapsed: float
    eta: float | None
    note: str = ""
    reason: str = ""
    counts: Counter[str] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", Counter(e.outcome.status for e in self.ended))

    @property
    def done(self) -> int:
        """Trials that ended with a result of their own, diverged ones included."""
        return self.counts["completed"] + self.counts["diverged"]

    @property
    def failed(self) -> int:
        """Trials that failed, and those whose machines did."""
        return self.counts["failed"] + self.counts["faulted"]

    def summary(self) -> str:
        """Counts by state, and the time left."""
        states = {"completed": self.counts["completed"], "running": len(self.running)}
        states["waiting"] = self.waiting
        for name in ("diverged", "failed", "faulted"):
            if self.counts[name]:
                states[name] = self.counts[name]
        text = ", ".join(f"{count} {name}" for name, count in states.items())
        return text + (f"; about {duration(self.eta)} left" if self.eta is not None else "")


class ProgressSink(Protocol):
    """Where progress goes. `close` is called once, however the launch ends."""

    def say(self, text: str) -> None:
        """Say what happens now, at once."""
        ...

    def update(self, snapshot: Snapshot) -> None:
        """Show where the launch stands; called a few times a second."""
        ...

    def close(self) -> None:
        """Leave the stream in order."""
        ...


class LineProgress:
    """A line when a trial starts or ends or waits, and a summary every 15 seconds."""

    def __init__(self, stream: TextIO, every: float = LINES_EVERY):
        self.stream, self.every = stream, every
        self.reason = ""
        self.started: set[tuple[str, int]] = set()
        self.shown = 0
        self.last = time.monotonic()

    def say(self, text: str) -> None:
        """Print it."""
        self._print(text)

    def update(self, snapshot: Snapshot) -> None:
        """Print what is new."""
        for ended in snapshot.ended[self.shown :]:
            outcome = ended.outcome
            message = f": {outcome.message}" if outcome.message else ""
            spent = duration(outcome.seconds)
            self._print(
                f"{outcome.status} {ended.label}, seed {ended.seed}, after {spent}{message}"
            )
        self.shown = len(snapshot.ended)
        for trial in snapshot.running:
            key = (trial.trial_id, trial.attempt)
            if key not in self.started:
                self.started.add(key)
                again = f" again (attempt {trial.attempt})" if trial.attempt > 1 else ""
                self._print(f"started{again} {trial.label}, seed {trial.seed}")
        if snapshot.reason != self.reason:
            self.reason = snapshot.reason
            if self.reason:
                self._print(f"waiting: {self.reason}")
        if time.monotonic() - self.last >= self.every:
            self.last = time.monotonic()
            self._print(f"[{duration(snapshot.elapsed)}] {snapshot.summary()}")
            if snapshot.note:
                self._print(f"  {snapshot.note}")
            for trial in snapshot.running:
                self._print(f"  {trial.label}, seed {trial.seed}: {trial.describe()}")

    def close(self) -> None:
        """Nothing is open."""

    def _print(self, line: str) -> None:
        print(line, file=self.stream, flush=True)


class LiveProgress:
    """A table that is redrawn in place; failures stay above it."""

    def __init__(self, stream: TextIO):
        from rich.console import Console
        from rich.live import Live

        self.console = Console(file=stream)
        # Drawn when there is something new, and not by a thread of its own as well.
        self.live = Live(console=self.console, auto_refresh=False, transient=True)
        self.open = False
        self.shown = 0

    def say(self, text: str) -> None:
        """Print it, above the table if there is one."""
        self.console.print(text, markup=False, highlight=False)

    def update(self, snapshot: Snapshot) -> None:
        """Redraw."""
        if not self.open:
            self.live.start()
            self.open = True
        for ended in snapshot.ended[self.shown :]:
            if ended.outcome.status != "completed":
                line = f"{ended.outcome.status} {ended.label}, seed {ended.seed}"
                message = f": {ended.outcome.message}" if ended.outcome.message else ""
                self.console.print(line + message, markup=False, highlight=False)
        self.shown = len(snapshot.ended)
        self.live.update(_table(snapshot), refresh=True)

    def close(self) -> None:
        """Take the table away."""
        if self.open:
            self.live.stop()
            self.open = False


def _table(snapshot: Snapshot) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("running", "seed", "step", "metric", "states", "time", "left"):
        table.add_column(column, style=None, header_style="dim", overflow="ellipsis", no_wrap=True)
    for trial in snapshot.running:
        table.add_row(*map(Text, _cells(trial)))
    head = Text(f"{duration(snapshot.elapsed)}  {snapshot.summary()}")
    waits = f"waiting: {snapshot.reason}" if snapshot.reason else ""
    lines = [head, *(Text(line) for line in (snapshot.note, waits) if line)]
    return Group(*lines, table) if snapshot.running else Group(*lines)


def _cells(trial: Running) -> list[str]:
    known: Any = trial.step is not None and trial.steps
    return [
        trial.label,
        str(trial.seed),
        f"{trial.step}/{trial.steps}" if known else "starting",
        f"{trial.metric:.4g}" if trial.metric is not None else "",
        " ".join(map(str, trial.state_dims)),
        duration(trial.seconds),
        duration(trial.left) if trial.left is not None else "",
    ]


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"


class Unbroken:
    """A sink that falls silent where its stream breaks: a closed terminal ends no launch."""

    def __init__(self, sink: ProgressSink):
        self.sink: ProgressSink | None = sink

    def say(self, text: str) -> None:
        """As the sink does."""
        self._try(lambda sink: sink.say(text))

    def update(self, snapshot: Snapshot) -> None:
        """As the sink does."""
        self._try(lambda sink: sink.update(snapshot))

    def close(self) -> None:
        """As the sink does."""
        self._try(lambda sink: sink.close())

    def _try(self, show: Callable[[ProgressSink], None]) -> None:
        if self.sink is None:
            return
        try:
            show(self.sink)
        except OSError:
            self.sink = None
            mute_what_is_closed()


class Silence:
    """Says nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def update(self, snapshot: Snapshot) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def make_progress(stream: TextIO | None) -> ProgressSink:
    """The sink that suits the stream; one that says nothing for none."""
    if stream is None:
        return Silence()
    return Unbroken(LiveProgress(stream) if stream.isatty() else LineProgress(stream))


__all__ = [
    "Ended",
    "LineProgress",
    "LiveProgress",
    "ProgressSink",
    "Running",
    "Snapshot",
    "Unbroken",
    "duration",
    "make_progress",
]
