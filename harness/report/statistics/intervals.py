"""Statistics of a comparison: pure functions of arrays with one value per seed.

This file has means, differences, ratios and the bootstrap; `top_k.py` has aggregates of the best
seeds, `power.py` tests within a margin, their power and the seeds they need. Nothing here knows
about arms, tables or files. An undefined number is NaN (the interval of one seed, say). NaN or
infinite input is refused: a mean over it would hide a diverged run.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

# What a nominal 95 % percentile bootstrap over n normal seeds actually covers, simulated by
# `bootstrap_coverage(n, default_rng(0), experiments=20_000, resamples=2_000)`; the standard error
# is 0.003. Student's t covers 0.95 at every n.
BOOTSTRAP_COVERAGE = {2: 0.50, 3: 0.75, 4: 0.80, 5: 0.84, 6: 0.86, 8: 0.88, 10: 0.90, 20: 0.92}

NO_WIDTH = 1e-9  # a narrower interval has no width but rounding error


class Interval(NamedTuple):
    """A mean and the bounds of its interval, in the unit of the `seeds` values."""

    mean: float
    low: float
    high: float
    seeds: int


class Spread(NamedTuple):
    """The median, smallest and largest of `seeds` values."""

    median: float
    low: float
    high: float
    seeds: int


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Mean over seeds with its Student t interval.

    `values` has shape (seeds,). One value gives a mean and NaN bounds; none gives NaN throughout.

    Raises ValueError if a value is NaN or infinite, or `confidence` is not inside (0, 1).
    """
    array = finite(values)
    check_confidence(confidence)
    count = array.size
    if count == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    mean = float(array.mean())
    if count == 1:
        return Interval(mean, np.nan, np.nan, 1)
    quantile = float(stats.t.ppf((1 + confidence) / 2, df=count - 1))
    half = quantile * float(array.std(ddof=1)) / np.sqrt(count)
    return Interval(mean, float(mean - half), float(mean + half), count)


def paired_difference(
    ours: ArrayLike, theirs: ArrayLike, confidence: float = 0.95, higher_is_better: bool = True
) -> Interval:
    """Mean of `ours - theirs`, paired by position (the seed), with its paired t interval.

    Both have shape (seeds,), in the same order of seeds. Positive means that ours is better: if
    lower is better, the sign is flipped.

    Raises ValueError if the shapes differ or a value is NaN or infinite.
    """
    ours, theirs = finite(ours), finite(theirs)
    if ours.shape != theirs.shape:
        raise ValueError(f"a paired difference needs pairs: {ours.size} values and {theirs.size}")
    return mean_interval(direction(higher_is_better) * (ours - theirs), confidence)


def paired_ratio(ours: ArrayLike, theirs: ArrayLike) -> Spread:
    """Median of `ours / theirs`, paired by position (the seed), and the range of these ratios.

    Both have shape (seeds,), in the same order of seeds, and are positive costs in one unit. One
    disturbed trial widens the range but hardly moves the median. NaN throughout without pairs.

    Raises ValueError if the shapes differ, a value is NaN or infinite, or one of theirs is not
    positive.
    """
    ours, theirs = finite(ours), finite(theirs)
    if ours.shape != theirs.shape:
        raise ValueError(f"a paired ratio needs pairs: {ours.size} values and {theirs.size}")
    if (theirs <= 0).any():
        raise ValueError("a ratio of costs that are not positive is undefined")
    if not ours.size:
        return Spread(np.nan, np.nan, np.nan, 0)
    ratios = ours / theirs
    return Spread(float(np.median(ratios)), float(ratios.min()), float(ratios.max()), ratios.size)


def direction(higher_is_better: bool) -> int:
    """The sign that makes a difference of metrics positive when it is an improvement."""
    return 1 if higher_is_better else -1


def top_k_mean(test_values: ArrayLike, k: int = 3, higher_is_better: bool = True) -> float:
    """Mean of the k best seeds *by test*, the aggregate that the paper publishes.

    It selects on the test set, so it is biased upwards; it is for comparison with published tables
    only. NaN with fewer than k seeds.

    Raises ValueError if k < 1 or a value is NaN or infinite.
    """
    if k < 1:
        raise ValueError(f"the best {k} seeds: k must be at least 1")
    array = finite(test_values)
    if array.size < k:
        return float("nan")
    ranked = np.sort(direction(higher_is_better) * array)[::-1]
    return float(direction(higher_is_better) * ranked[:k].mean())


def ratio_interval(ours: ArrayLike, theirs: ArrayLike, confidence: float = 0.95) -> Interval:
    """Geometric mean of `ours / theirs`, paired by seed, with the t interval of its logarithm.

    Both have shape (seeds,), in the same order of seeds, and are positive costs in one unit.

    Raises ValueError if the shapes differ, a value is NaN or infinite, or one is not positive.
    """
    ours, theirs = finite(ours), finite(theirs)
    if (ours <= 0).any() or (theirs <= 0).any():
        raise ValueError("a ratio of costs that are not positive is undefined")
    logs = paired_difference(np.log(ours), np.log(theirs), confidence)
    mean, low, high = (float(np.exp(value)) for value in logs[:3])
    return Interval(mean, low, high, logs.seeds)


def bootstrap_interval(
    values: ArrayLike, rng: np.random.Generator, confidence: float = 0.95, resamples: int = 4_000
) -> Interval:
    """Mean over seeds with its percentile bootstrap interval.

    With few seeds it is too narrow: see `BOOTSTRAP_COVERAGE`. Bounds are NaN for one value.

    Raises ValueError if a value is NaN or infinite, or `confidence` is not inside (0, 1).
    """
    array = finite(values)
    check_confidence(confidence)
    if array.size < 2:
        return mean_interval(array, confidence)
    means = array[rng.integers(array.size, size=(resamples, array.size))].mean(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(array.mean()), float(low), float(high), array.size)


def simulated_coverage(
    interval: Callable[[NDArray[np.float64]], Interval],
    count: int,
    rng: np.random.Generator,
    truth: float = 0.0,
    experiments: int = 2_000,
) -> float:
    """Fraction of simulated experiments of `count` standard normal seeds that hold `truth`.

    `truth` is the true value for such seeds: 0 for their mean. The standard error is
    sqrt(c (1 - c) / experiments).
    """
    samples = rng.standard_normal((experiments, count))
    found = (interval(sample) for sample in samples)
    return sum(one.low <= truth <= one.high for one in found) / experiments


def bootstrap_coverage(
    count: int,
    rng: np.random.Generator,
    confidence: float = 0.95,
    experiments: int = 2_000,
    resamples: int = 1_000,
) -> float:
    """Fraction of simulated experiments of `count` normal seeds whose bootstrap holds the mean.

    Raises ValueError if `count` < 2: there is no interval then.
    """
    if count < 2:
        raise ValueError(f"coverage at {count} seeds: at least 2 are needed")
    return simulated_coverage(
        lambda sample: bootstrap_interval(sample, rng, confidence, resamples),
        count,
        rng,
        experiments=experiments,
    )


def known_coverage(count: int, table: Mapping[int, float] = BOOTSTRAP_COVERAGE) -> float:
    """Actual coverage of a 95 % bootstrap at `count` seeds: the smaller of its known neighbours.

    `table` maps numbers of seeds to simulated coverages: by default for the
    mean; `top_k.BOOTSTRAP_COVERAGE` has them for the top 3. NaN below the smallest known count.
    """
    below = [n for n in table if n <= count]
    if not below:
        return float("nan")
    above = [n for n in table if n >= count]
    return min(table[max(below)], table[min(above)] if above else 1.0)


def finite(values: ArrayLike) -> NDArray[np.float64]:
    """The values as an array of shape (seeds,). Raises ValueError for NaN or infinity."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"expected one value per seed, got an array of shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("a value is NaN or infinite; leave diverged seeds out and count them")
    return array


def check_confidence(confidence: float) -> None:
    """Raises ValueError outside (0, 1)."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence}: it must lie between 0 and 1")
