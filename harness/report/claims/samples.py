"""From a part of a test to numbers of ours: one per seed, an interval, and the region asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.report import presentation as show
from harness.report import statistics, top_k
from harness.report.claims.evidence import Absent, Evidence, paired_costs, seeds_missing
from harness.report.claims.spec import (
    Claim,
    DifferencePart,
    RatioPart,
    StabilityPart,
    Tolerance,
    ValuePart,
)
from harness.report.power import region_p
from harness.report.rows import Row
from harness.report.statistics import Interval
from harness.suite import Comparison

TOP = 3  # the published aggregate


@dataclass(frozen=True)
class Sample:
    """Numbers of ours: one per seed, what they come to, and the region that the claim gives them.

    `unit` is `%`, `points` of accuracy, `states`, `x` or nothing. `wanted` seeds are those without
    which the number is another one (the best 3 of 5 are not the best 3 of 10).
    """

    values: np.ndarray
    interval: Interval
    region: tuple[float, float]
    unit: str
    wanted: int = 0
    exact: bool = False  # no spread over seeds is a fact, not a metric that is too coarse
    diverged: int = 0
    logarithmic: bool = False
    p: float = math.nan


def sample_of(
    claim: Claim,
    part: Any,
    comparison: Comparison,
    evidence: Evidence,
    tolerances: Mapping[str, Tolerance],
) -> Sample:
    """The numbers of the records for one part of a test.

    Raises:
        Absent: there are none, or not by the settings of the suite.
    """
    return SAMPLES[part.kind](claim, part, comparison, evidence, tolerances)


def published(claim: Claim, part: ValuePart | RatioPart) -> float:
    value = part.value if part.value is not None else claim.number
    assert value is not None  # `Claims` has checked
    return value


def _value(
    claim: Claim,
    part: ValuePart,
    comparison: Comparison,
    evidence: Evidence,
    tolerances: Mapping[str, Tolerance],
) -> Sample:
    row = evidence.row(comparison, part.row)
    theirs = published(claim, part)
    _same_size(row, part, tolerances)
    region = tolerances[part.tolerance].around(theirs)
    if part.column.startswith("state_dim"):
        values = row.finished[part.column].to_numpy(dtype=float)
        interval = statistics.mean_interval(values)
        p = region_p(values, *region)
        return Sample(values, interval, region, "states", exact=True, p=p)
    top = part.column == "metric_top3"
    known = [seed for seed in comparison.seeds if seed in row.finished.index]
    # The best 3 are those of the suite's own seeds: more seeds would lift them.
    chosen = row.finished.loc[known] if top else row.finished
    values, unit = _metric(row, chosen.test_metric)
    interval = (
        top_k.top_k_interval(values, TOP, row.higher_is_better)
        if top
        else statistics.mean_interval(values)
    )
    wanted = len(comparison.seeds) if top and seeds_missing(comparison, row) else 0
    p = math.nan if top else region_p(values, *region)
    return Sample(values, interval, region, unit, wanted, diverged=row.diverged, p=p)


def _same_size(row: Row, part: ValuePart, tolerances: Mapping[str, Tolerance]) -> None:
    """Refuse a row of another size than the published one's."""
    if part.at_states is None:
        return
    low, high = tolerances["size"].around(part.at_states)
    ours = float(row.finished.state_dim_mean.astype(float).mean())
    if not low <= ours <= high:
        raise Absent(
            f"ours has {ours:.1f} states a block, the published row {part.at_states:g}: "
            "another experiment"
        )


def _difference(
    claim: Claim,
    part: DifferencePart,
    comparison: Comparison,
    evidence: Evidence,
    tolerances: Mapping[str, Tolerance],
) -> Sample:
    row, other = (evidence.row(comparison, label) for label in (part.row, part.minus))
    seeds = row.finished.index.intersection(other.finished.index)
    if seeds.empty:
        raise Absent(f"{part.row!r} and {part.minus!r} have no seed in common")
    ours, unit = _metric(row, row.finished.test_metric[seeds])
    theirs, _ = _metric(row, other.finished.test_metric[seeds])
    margin = tolerances[part.margin].points or 0.0
    region = {
        "noninferior": (-margin, math.inf),
        "better": (margin, math.inf),
        "worse": (-math.inf, -margin),
        "equivalent": (-margin, margin),
        "no_better": (-math.inf, margin),
    }[part.goal]
    differences = statistics.direction(row.higher_is_better) * (ours - theirs)
    return Sample(
        differences,
        statistics.paired_difference(ours, theirs, higher_is_better=row.higher_is_better),
        region,
        "points" if unit == "%" else unit,
        diverged=row.diverged + other.diverged,
        p=region_p(differences, *region),
    )


def _ratio(
    claim: Claim,
    part: RatioPart,
    comparison: Comparison,
    evidence: Evidence,
    tolerances: Mapping[str, Tolerance],
) -> Sample:
    row, to = (evidence.row(comparison, label) for label in (part.row, part.to))
    plus = evidence.row(comparison, part.plus) if part.plus is not None else None
    spent, theirs = paired_costs(row, to, plus, part.column)
    interval = statistics.ratio_interval(theirs, spent)
    if part.at_least is not None:
        region = part.at_least, math.inf
    else:
        region = tolerances[part.tolerance or ""].around(published(claim, part))
    return Sample(
        theirs / spent, interval, region, "x", exact=part.column == "flops", logarithmic=True
    )


def _stability(
    claim: Claim,
    part: StabilityPart,
    comparison: Comparison,
    evidence: Evidence,
    tolerances: Mapping[str, Tolerance],
) -> Sample:
    row = evidence.row(comparison, part.row)
    found = evidence.stability
    found = found[(found.label == row.label) & found.seed.isin(row.finished.index)]
    found = found[(found.comparison == row.comparison) | found.comparison.isna()]
    values = [_at(one, part) for _, one in found.groupby("seed")]
    array = np.array([value for value in values if math.isfinite(value)])
    if not array.size:
        raise Absent(f"no block of {part.row!r} has a stretch without truncation around there")
    region = part.at_least, math.inf
    return Sample(
        array, statistics.mean_interval(array), region, "", diverged=row.diverged,
        p=region_p(array, *region),
    )  # fmt: skip


def _at(seed: pd.DataFrame, part: StabilityPart) -> float:
    """Mean over blocks of the measure at the fraction, between the records before and after it.

    NaN where no block has a stretch that goes on beyond.
    """
    values = []
    for _, stretch in seed.groupby(["block", "stretch"]):
        if stretch["at"].min() <= part.fraction < stretch["at"].max():
            values.append(np.interp(part.fraction, stretch["at"], stretch[part.measure]))
    return float(np.mean(values)) if values else math.nan


def _metric(row: Row, values: Any) -> tuple[np.ndarray, str]:
    """Test metrics (seeds,) in the unit in which they are shown, and that unit."""
    shown = show.shown_metric(str(row.constant("metric")))
    return values.to_numpy(dtype=float) * shown.factor, shown.unit


SAMPLES: dict[str, Callable[..., Sample]] = {
    "value": _value,
    "difference": _difference,
    "ratio": _ratio,
    "stability": _stability,
}
