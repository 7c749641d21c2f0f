"""Named clocks that add up: every second of a trial belongs to one of them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import torch

NAMES = ("setup", "train", "truncate", "spectra", "evaluate", "checkpoint")


class Clocks:
    """Seconds by name. A clock that stops waits for the device, so that work is not billed to the
    next clock."""

    def __init__(self, device: torch.device, seconds: dict[str, float] | None = None):
        self.device = device
        self.seconds = dict.fromkeys(NAMES, 0.0) | (seconds or {})

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            self.seconds[name] += time.perf_counter() - start

    @property
    def total(self) -> float:
        """Seconds of all clocks together."""
        return sum(self.seconds.values())
