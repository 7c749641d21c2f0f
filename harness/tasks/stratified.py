"""Splits with the same mix of classes: scikit-learn's `train_test_split(stratify=...)`, number
for number, without importing scikit-learn, which takes seconds.
"""

from __future__ import annotations

import numpy as np


def stratified_split(labels: np.ndarray, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two disjoint vectors of row numbers, `size` rows and all the others, each shuffled.

    labels: (n,) integers. Classes are drawn in proportion to their counts.
    """
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    rows = np.split(np.argsort(classes, kind="stable"), np.cumsum(counts)[:-1])
    random = np.random.RandomState(seed)
    first_counts = _shares(counts, size, random)
    _shares(
        counts - first_counts, len(labels) - size, random
    )  # scikit-learn draws here, so we do too
    first: list[int] = []
    second: list[int] = []
    for members, count in zip(rows, first_counts, strict=True):
        shuffled = members[random.permutation(len(members))]
        first.extend(shuffled[:count])
        second.extend(shuffled[count:])
    return random.permutation(first), random.permutation(second)


def _shares(counts: np.ndarray, size: int, random: np.random.RandomState) -> np.ndarray:
    """How many of each class make up `size`: rounded down, then up where the remainder is largest,
    and at random among equal remainders."""
    exact = counts / counts.sum() * size
    shares = np.floor(exact)
    missing = int(size - shares.sum())
    remainder = exact - shares
    for value in np.unique(remainder)[::-1]:
        if missing == 0:
            break
        (tied,) = np.where(remainder == value)
        drawn = min(len(tied), missing)
        shares[random.choice(tied, size=drawn, replace=False)] += 1
        missing -= drawn
    return shares.astype(int)
