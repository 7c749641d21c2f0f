"""A long text cut into windows that do not overlap, without being copied."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.tasks.base import SPLITS


def as_windows(stream: np.ndarray, window: int) -> np.ndarray:
    """(windows, window + 1), a view of the bytes `stream`: x is all but the last of each row, y
    all but the first. What is left at the end is dropped."""
    width = window + 1
    count = len(stream) // width
    return stream[: count * width].reshape(count, width)


def window_order(split: str, split_seed: int, count: int) -> np.ndarray:
    """(count,) int64: the windows of a split in an order drawn by the seed, so that a smaller
    cap is a prefix of a larger one."""
    return np.random.default_rng([split_seed, SPLITS.index(split)]).permutation(count)


def token_facts(windows: np.ndarray, unit: str = "bytes") -> dict[str, Any]:
    """How many different bytes (or other units) there are, and their entropy in bits, which a model
    without context reaches."""
    counts = np.bincount(windows.ravel(), minlength=256)
    share = counts[counts > 0] / counts.sum()
    return {
        unit: int(counts.sum()),
        f"distinct_{unit}": len(share),
        f"entropy_of_single_{unit}": float(-(share * np.log2(share)).sum()),
    }
