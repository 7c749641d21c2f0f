"""The examples in the batch of a step: a pure function of (seed, step), never of history."""

from __future__ import annotations

import functools

import numpy as np

# Separates the order of the data from every other random stream of the run's seed.
_STREAM = 0x0DA7A


def step_indices(size: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    """Indices of the training examples of step `step` (counted from 0): (batch_size,) int64.

    Each epoch has its own permutation of the `size` examples. The incomplete batch at its end is
    dropped, so that all batches have one size. Raises ValueError if a batch is larger than the
    split, or a number is out of range.
    """
    if batch_size < 1 or seed < 0 or step < 0:
        raise ValueError(
            f"batch_size must be at least 1, seed and step at least 0; "
            f"got batch_size {batch_size}, seed {seed}, step {step}"
        )
    if batch_size > size:
        raise ValueError(
            f"batch_size {batch_size} is larger than the training split of {size} examples"
        )
    epoch, position = divmod(step, size // batch_size)
    start = position * batch_size
    return _permutation(size, seed, epoch)[start : start + batch_size].copy()


@functools.lru_cache(maxsize=2)
def _permutation(size: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch, _STREAM]).permutation(size)
