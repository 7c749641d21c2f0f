"""Peak memory of this process and all its descendants together."""

from __future__ import annotations

import contextlib
import threading
import time
from types import TracebackType

EVERY = 2.0  # seconds between samples, at least
SHARE = 0.005  # of a core, spent on samples at most


class PeakMemory:
    """Samples in a thread inside its context. `bytes` is the largest sum of proportional set sizes.

    The proportional set size counts a page that k processes share as 1/k in each, so the sum
    counts every page once. A peak between two samples is missed.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            begun = time.monotonic()
            self.bytes = max(self.bytes, memory_now())
            # The kernel goes through every page of every process for one sample.
            if self._over.wait(max(EVERY, (time.monotonic() - begun) / SHARE)):
                return


def memory_now() -> int:
    """Bytes of this process and its descendants."""
    import psutil

    total = 0
    own = psutil.Process()
    for process in (own, *own.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # it may end while we look
            full = process.memory_full_info()
            total += getattr(full, "pss", 0) or full.rss
    return total
