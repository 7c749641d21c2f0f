"""When to repeat a task."""

from __future__ import annotations

import time

SHARE = 0.01  # of a core, spent on a repeated task at most


class Cadence:
    """When to repeat a task: every so many seconds, or less often if it takes long.

    Going through a plan of thousands of trials takes a good part of a second.
    """

    def __init__(self, every: float):
        self.every, self.next = every, time.monotonic()

    def due(self) -> bool:
        """Whether the task is due."""
        return time.monotonic() >= self.next

    def done(self, begun: float) -> None:
        """The task that began at `begun` has just finished."""
        now = time.monotonic()
        self.next = now + max(self.every, (now - begun) / SHARE)


__all__ = ["Cadence"]
