"""Streams of random numbers as pure functions of (seed, purpose, step), never of history."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch

PURPOSES = {"weights": 1, "dropout": 2, "truncation": 3, "calibration": 4}


def stream(seed: int, purpose: str, step: int = 0) -> int:
    """A 63-bit seed for one purpose at one step of the run with this seed."""
    state = np.random.SeedSequence([seed, PURPOSES[purpose], step]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


@contextlib.contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Seed torch's global generator inside; restore it at the end."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
