"""Whether a study's seeds can resolve its margin, and when to stop a weak candidate."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping

from scipy import stats

from harness.tasks.metrics import METRICS

from .study_spec import Study

SURE = 0.95  # one-sided
SPREADS = 2.0  # standard deviations by which the first seeds may exceed the margin
MOST_SEEDS = 1000


def check_margin(study: Study, full: Mapping[int, float]) -> None:
    """Refuse a margin that the study's seeds cannot resolve.

    `full` holds the full model's validation metric by seed. Its spread stands in for that of a
    paired difference, which is unknown until candidates have run. A mean over n seeds is known
    only to within t(n - 1) x spread / sqrt(n).

    Raises:
        ValueError: with the numbers, and how many seeds would be enough.
    """
    if study.margin is None or len(full) < 2:
        return
    spread = statistics.stdev(full.values())
    least = resolution(spread, len(full))
    if study.margin >= least:
        return
    enough = next((n for n in range(2, MOST_SEEDS) if resolution(spread, n) <= study.margin), None)
    advice = f"; {enough} seeds would resolve it" if enough else ""
    raise ValueError(
        f"margin {study.margin:.3g} is finer than {len(full)} seeds can resolve: the full model's "
        f"validation {study.base.task.metric} spreads by {spread:.3g} (standard deviation) over "
        f"them, so {least:.3g} is the least{advice}"
    )


def resolution(spread: float, seeds: int) -> float:
    """The one-sided 95 % t bound on the mean of `seeds` values of this standard deviation."""
    return float(stats.t.ppf(SURE, seeds - 1)) * spread / math.sqrt(seeds)


def weakness(
    study: Study, seen: Mapping[int, float], full: Mapping[int, float]
) -> tuple[float, str] | None:
    """(deficit beyond the margin, reason) if the first seeds rule a candidate out, else None.

    They do when its mean deficit to the full model, paired by seed, exceeds the margin by more
    than two standard deviations of a mean over that many seeds.
    """
    assert study.margin is not None
    sign = 1.0 if METRICS[study.base.task.metric].higher_is_better else -1.0
    deficit = statistics.fmean(sign * (full[seed] - value) for seed, value in seen.items())
    slack = SPREADS * statistics.stdev(full.values()) / math.sqrt(len(seen))
    if deficit <= study.margin + slack:
        return None
    seeds = ", ".join(map(str, seen))
    return deficit - study.margin, (
        f"{deficit:.3g} below full size on seed {seeds}: more than the margin {study.margin:.3g} "
        f"and {SPREADS:.0f} x {slack / SPREADS:.2g} of spread"
    )
