"""Progress while data are being made."""

from __future__ import annotations

import sys
import time
from typing import ClassVar


class ProgressLines:
    """A line on standard error every few seconds: examples made so far, and time left.

    Call it with the number of examples that were just made, out of `total`.
    """

    every: ClassVar[float] = 10.0  # seconds

    def __init__(self, task: str, examples: str, total: int) -> None:
        self._task, self._examples = task, examples
        self._total, self._have = total, 0
        self._began = self._shown = time.monotonic()

    def __call__(self, made: int) -> None:
        self._have += made
        now = time.monotonic()
        if now - self._shown < self.every:
            return
        self._shown = now
        rate = self._have / (now - self._began)
        left = f"{(self._total - self._have) / rate:.0f} s left" if rate else "none yet"
        print(
            f"{self._task}: {self._have:,} of {self._total:,} {self._examples}, {rate:,.0f} a "
            f"second, {left}",
            file=sys.stderr,
        )
