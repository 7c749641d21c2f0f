"""Progress on standard error: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from harness.tools.notes import mute_what_is_closed

from .snapshot import Running, Snapshot, duration

if TYPE_CHECKING:
    from rich.console import RenderableType

LINES_EVERY = 15.0  # seconds between the notes of LineProgress


class ProgressSink(Protocol):
    """Where progress goes. `close` is called once, however the launch ends."""

    def say(self, text: str) -> None:
        """Show a message at once."""
        ...

    def update(self, snapshot: Snapshot) -> None:
        """Show the launch's progress; called a few times a second."""
        ...

    def close(self) -> None:
        """Leave the stream in a clean state."""
        ...


class LineProgress:
    """A line when a trial starts or ends or waits, and a summary every 15 seconds."""

    def __init__(self, stream: TextIO, every: float = LINES_EVERY):
        self.stream, self.every = stream, every
        self.waits = ""
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
            spent = f"after {duration(outcome.seconds)}"
            took = "by another launch" if outcome.elsewhere else spent
            self._print(f"{outcome.status} {ended.label}, seed {ended.seed}, {took}{message}")
        self.shown = len(snapshot.ended)
        for trial in snapshot.running:
            key = (trial.trial_id, trial.attempt)
            if key not in self.started:
                self.started.add(key)
                again = f" again (attempt {trial.attempt})" if trial.attempt > 1 else ""
                self._print(f"started{again} {trial.label}, seed {trial.seed}")
        if snapshot.waits != self.waits:
            self.waits = snapshot.waits
            if self.waits:
                self._print(self.waits)
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
    """A table redrawn in place, with failures kept above it."""

    def __init__(self, stream: TextIO):
        from rich.console import Console
        from rich.live import Live

        self.console = Console(file=stream)
        # Drawn when there is news, not also by a thread of its own.
        self.live = Live(console=self.console, auto_refresh=False, transient=True)
        self.open = False
        self.shown = 0

    def say(self, text: str) -> None:
        """Print it, above the table if one is shown."""
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
        """Remove the table."""
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
    lines = [head, *(Text(line) for line in (snapshot.note, snapshot.waits) if line)]
    return Group(*lines, table) if snapshot.running else Group(*lines)


def _cells(trial: Running) -> list[str]:
    known: Any = trial.step is not None and trial.steps
    return [
        trial.label,
        str(trial.seed),
        f"{trial.step}/{trial.steps}" if known else trial.state,
        f"{trial.metric:.4g}" if trial.metric is not None else "",
        " ".join(map(str, trial.state_dims)),
        duration(trial.seconds),
        duration(trial.left) if trial.left is not None else "",
    ]


class Unbroken:
    """A sink that falls silent if its stream breaks, so that a closed terminal ends no launch."""

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


class Several:
    """Sinks that all get the same."""

    def __init__(self, *sinks: ProgressSink):
        self.sinks: Sequence[ProgressSink] = sinks

    def say(self, text: str) -> None:
        """To all."""
        for sink in self.sinks:
            sink.say(text)

    def update(self, snapshot: Snapshot) -> None:
        """To all."""
        for sink in self.sinks:
            sink.update(snapshot)

    def close(self) -> None:
        """All of them."""
        for sink in self.sinks:
            sink.close()


class Silence:
    """Says nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def update(self, snapshot: Snapshot) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def make_progress(stream: TextIO | None) -> ProgressSink:
    """The sink that suits the stream; without a stream, one that shows nothing."""
    if stream is None:
        return Silence()
    return Unbroken(LiveProgress(stream) if stream.isatty() else LineProgress(stream))


__all__ = ["LineProgress", "LiveProgress", "ProgressSink", "Several", "Unbroken", "make_progress"]
