"""Tests of a mean within a margin, their power, and the seeds that would decide.

A statement about a mean over seeds is a region for it: above -margin for "not worse", within
±margin for "the same", above 0 for "better". Two one-sided t tests at 2.5 % (Schuirmann 1987)
confirm it if the two-sided 95 % interval lies inside the region and refute it if the interval lies
outside. Otherwise it is undecided.
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from harness.report.statistics.intervals import Interval, check_confidence, finite

Decision = Literal["inside", "outside", "undecided"]

MOST_SEEDS = 1000  # beyond this many seeds a question counts as undecidable
FARTHEST = 30.0  # scipy's largest non-centrality; power does not fall beyond it


def decide(interval: Interval, low: float, high: float) -> Decision:
    """Whether an interval lies inside the region from `low` to `high`, outside it, or neither.

    Either end may be infinite. An interval with NaN bounds decides nothing.

    Raises ValueError for a region without width.
    """
    _check_region(low, high)
    if math.isnan(interval.low) or math.isnan(interval.high):
        return "undecided"
    if low < interval.low and interval.high < high:
        return "inside"
    return "outside" if interval.high < low or high < interval.low else "undecided"


def region_p(values: ArrayLike, low: float, high: float) -> float:
    """p-value of two one-sided t tests that the mean of `values` lies between `low` and `high`.

    `values` has shape (seeds,), for a paired difference one difference per seed. The larger of the
    two one-sided p-values; NaN below two seeds or if all are equal.

    Raises ValueError if a value is NaN or infinite, or the region has no width.
    """
    array = finite(values)
    _check_region(low, high)
    if array.size < 2 or not array.std(ddof=1) > 0:
        return math.nan
    error = array.std(ddof=1) / math.sqrt(array.size)
    above = stats.t.sf((array.mean() - low) / error, array.size - 1)
    below = stats.t.sf((high - array.mean()) / error, array.size - 1)
    return float(max(above, below))


def noninferiority_p(ours: ArrayLike, theirs: ArrayLike, margin: float) -> float:
    """p-value of a paired one-sided t test that ours is worse than theirs by less than `margin`.

    Both have shape (seeds,), in the same order of seeds; higher is better.

    Raises ValueError as `equivalence_p`.
    """
    return region_p(_differences(ours, theirs, margin), -margin, math.inf)


def equivalence_p(ours: ArrayLike, theirs: ArrayLike, margin: float) -> float:
    """p-value of two paired one-sided t tests that ours and theirs differ by less than `margin`.

    Both have shape (seeds,), in the same order of seeds.

    Raises ValueError if the shapes differ, a value is NaN or infinite, or the margin is not
    positive.
    """
    return region_p(_differences(ours, theirs, margin), -margin, margin)


def power(distance: float, spread: float, seeds: ArrayLike, confidence: float = 0.95) -> np.ndarray:
    """Chance that the t interval of a mean at `distance` from a bound lies on its side of it.

    `spread` is the standard deviation of one value (for a paired difference: of the differences),
    in the unit of `distance`; `seeds` any shape of counts of at least 2, which is that of the
    result. Non-central t: P(T > t_(n-1)) with non-centrality distance sqrt(n) / spread.

    Raises ValueError for fewer than 2 seeds, or a spread or distance that is not positive.
    """
    check_confidence(confidence)
    counts = np.asarray(seeds, dtype=np.int64)
    if (counts < 2).any():
        raise ValueError("power needs at least 2 seeds")
    if not (spread > 0 and distance > 0):
        raise ValueError(f"distance {distance} and spread {spread} must be positive")
    centre = np.minimum(distance / spread * np.sqrt(counts), FARTHEST)
    bound = stats.t.ppf((1 + confidence) / 2, counts - 1)
    return np.asarray(stats.nct.sf(bound, counts - 1, centre))


def seeds_to_decide(
    mean: float,
    spread: float,
    low: float,
    high: float,
    wanted: float = 0.8,
    confidence: float = 0.95,
) -> int | None:
    """The fewest seeds that decide, with probability `wanted`, whether a mean lies in a region.

    The region goes from `low` to `high`, either of which may be infinite; `mean` and `spread` (of
    one value) are taken as true, so this is a rough guide. Inside, the interval must
    clear both ends: P(above low and below high) is at least P(above low) + P(below high) - 1, the
    bound used here. Outside, it must clear the nearer end. None if `MOST_SEEDS` are too few.

    Raises ValueError for a negative spread, or a region without width.
    """
    _check_region(low, high)
    if spread < 0:
        raise ValueError(f"spread {spread}: it must not be negative")
    # Inside, both distances are positive; outside, only the one to the nearer end counts.
    distances = [mean - low, high - mean]
    if min(distances) < 0:
        distances = [-min(distances)]
    if min(distances) == 0:
        return None
    if spread == 0:
        return 2
    counts = np.arange(2, MOST_SEEDS + 1)
    missed = np.zeros(counts.shape)
    for distance in filter(math.isfinite, distances):
        missed += 1 - power(distance, spread, counts, confidence)
    enough = 1 - missed >= wanted
    return int(counts[enough][0]) if enough.any() else None


def _differences(ours: ArrayLike, theirs: ArrayLike, margin: float) -> np.ndarray:
    ours, theirs = finite(ours), finite(theirs)
    if ours.shape != theirs.shape:
        raise ValueError(f"a paired test needs pairs: {ours.size} values and {theirs.size}")
    if not margin > 0:
        raise ValueError(f"margin {margin}: it must be positive")
    return ours - theirs


def _check_region(low: float, high: float) -> None:
    if not low < high:
        raise ValueError(f"a region from {low} to {high} has no width")
