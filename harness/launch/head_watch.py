"""Watching the head of the cluster: which nodes live, and whether the head still answers.

Without its head Ray waits in C++, and ends the whole process after a minute of that. So a thread
asks, and the launch, which never waits for the head, notices the silence.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from .cluster import Node

ASK_EVERY = 2.0  # seconds between questions: a node that is leaving may have 30 s left
PAUSE = 10.0  # seconds between two looks, after which this process must have been stopped
SILENCE = 20.0  # seconds without an answer after which the head is lost


class HeadWatch:
    """The nodes as last told by the head, and for how long it has been silent."""

    def __init__(self, ask: Callable[[], list[Node]]):
        self.ask = ask
        self.nodes = ask()
        self.asked_at: float | None = None  # the question that is still open
        self.looked_at = time.monotonic()
        self.over = threading.Event()

    @property
    def is_lost(self) -> bool:
        """Whether a question has been open for too long. Called again and again: after a pause of
        this process (Ctrl-Z), in which it could hear no answer, the silence is counted anew."""
        now, asked_at = time.monotonic(), self.asked_at
        paused, self.looked_at = now - self.looked_at > PAUSE, now
        if asked_at is None:
            return False
        if paused:
            self.asked_at = now
            return False
        return now - asked_at > SILENCE

    def run(self) -> None:
        """Ask until told to stop. The last question may stay open for ever."""
        while not self.over.wait(ASK_EVERY):
            if self.asked_at is None:
                self.asked_at = time.monotonic()
            try:
                self.nodes = self.ask()
            except Exception:  # whatever Ray raises without its head, the silence goes on
                continue
            self.asked_at = None


@contextlib.contextmanager
def watched(ask: Callable[[], list[Node]]) -> Iterator[HeadWatch]:
    """Watch the head that answers `ask`, until the end of the context."""
    watch = HeadWatch(ask)
    threading.Thread(target=watch.run, daemon=True).start()
    try:
        yield watch
    finally:
        watch.over.set()


__all__ = ["HeadWatch", "watched"]
