"""Our numbers for a part of a test: one per seed, an interval, and the region asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.report import presentation as show
from harness.report.claims.evidence import Absent, Evidence, paired_costs
from harness.report.claims.spec import (
    Claim,
    DifferencePart,
    RatioPart,
    StabilityPart,
    Tolerance,
    ValuePart,
)
from harness.report.comparison.rows import Row
from harness.report.statistics import intervals as statistics
from harness.report.statistics import top_k
from harness.report.statistics.intervals import Interval
from harness.report.statistics.power import region_p
from harness.suite import Comparison

TOP = 3  # the published aggregate


@dataclass(frozen=True)
class Sample:
    """Our numbers: one per seed, their interval, and the region that the claim asks for.

    `unit` is `%`, `points` of accuracy, `states`, `x` or nothing. `rows` are all rows used, without
    repeats. `best` marks a mean of the best of the suite's seeds, whose meaning changes with the
    number of seeds.
    """

    values: np.ndarray
    interval: Interval
    region: tuple[float, float]
    unit: str
    rows: tuple[Row, ...]
    known: tuple[int, int]  # how many of the suite's seeds are in `values`, and how many it has
    best: bool = False
    exact: bool = False  # equal seeds mean no spread, not a metric that is too coarse
    logarithmic: bool = False
    p: float = math.nan

    @property
    def lost(self) -> str:
        """`1 diverged and 2 failed`, the lost seeds of its rows; empty if there are none."""
        counts = {
            "diverged": sum(row.diverged for row in self.rows),
            "failed": sum(row.failed for row in self.rows),
            "damaged": sum(row.damaged for row in self.rows),
        }
        return " and ".join(f"{count} {what}" for what, count in counts.items() if count)


def sample_of(
    claim: Claim,
    part: Any,
    comparison: Comparison,
    evidence: Evidence,
    tolerances: Mapping[str, Tolerance],
) -> Sample:
    """The recorded numbers for one part of a test.

    Raises:
        Absent: there are none, or not with the settings of the suite.
    """
    return SAMPLES[part.kind](claim, part, comparison, evidence, tolerances)


def _known(comparison: Comparison, seeds: Iterable[Any]) -> tuple[int, int]:
    """How many of the suite's seeds are among `seeds`, and how many it has."""
    return len(set(comparison.seeds) & {int(seed) for seed in seeds}), len(comparison.seeds)


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
    known = _known(comparison, row.finished.index)
    if part.column.startswith("state_dim"):
        values = row.finished[part.column].to_numpy(dtype=float)
        interval = statistics.mean_interval(values)
        p = region_p(values, *region)
        return Sample(values, interval, region, "states", (row,), known, exact=True, p=p)
    if part.column == "metric_mean":
        values, unit = _metric(row, row.finished.test_metric)
        interval = statistics.mean_interval(values)
        return Sample(values, interval, region, unit, (row,), known, p=region_p(values, *region))
    # Only the suite's own seeds count: the best 3 of more seeds would be better.
    chosen = [seed for seed in comparison.seeds if seed in row.finished.index]
    values, unit = _metric(row, row.finished.loc[chosen].test_metric)
    interval = top_k.top_k_interval(values, TOP, row.higher_is_better)
    return Sample(values, interval, region, unit, (row,), known, best=True)


def _same_size(
    row: Row, part: ValuePart | DifferencePart | RatioPart, tolerances: Mapping[str, Tolerance]
) -> None:
    """Refuse a row whose size differs from the published one's."""
    if part.at_states is None:
        return
    low, high = tolerances["size"].around(part.at_states)
    ours = float(row.finished.state_dim_mean.astype(float).mean())
    if not low <= ours <= high:
        raise Absent(
            f"ours has {ours:.1f} states per block, the published row {part.at_states:g}: "
            "a different experiment"
        )


def _difference(
    claim: Claim,
    part: DifferencePart,
    comparison: Comparison,
    evidence: Evidence,
    tolerances: Mapping[str, Tolerance],
) -> Sample:
    row, other = (evidence.row(comparison, label) for label in (part.row, part.minus))
    _same_size(row, part, tolerances)
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
        (row, other),
        _known(comparison, seeds),
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
    _same_size(row, part, tolerances)
    seeds, spent, theirs = paired_costs(row, to, plus, part.column)
    interval = statistics.ratio_interval(theirs, spent)
    if part.at_least is not None:
        region = part.at_least, math.inf
    else:
        region = tolerances[part.tolerance or ""].around(published(claim, part))
    others = [one for one in (to, plus) if one is not None]
    return Sample(
        theirs / spent,
        interval,
        region,
        "x",
        tuple({one.label: one for one in (row, *others)}.values()),
        _known(comparison, seeds),
        exact=part.column == "flops",
        logarithmic=True,
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
    by_seed = {seed: _at(one, part) for seed, one in found.groupby("seed")}
    values = {seed: value for seed, value in by_seed.items() if math.isfinite(value)}
    array = np.array(list(values.values()))
    if not array.size:
        raise Absent(f"no block of {part.row!r} has a stretch without truncation at that point")
    region = part.at_least, math.inf
    return Sample(
        array, statistics.mean_interval(array), region, "", (row,), _known(comparison, values),
        p=region_p(array, *region),
    )  # fmt: skip


def _at(seed: pd.DataFrame, part: StabilityPart) -> float:
    """Mean over blocks of the measure at the fraction, interpolated between records.

    NaN if no block has a stretch across that point.
    """
    values = []
    for _, stretch in seed.groupby(["block", "stretch"]):
        if stretch["at"].min() <= part.fraction < stretch["at"].max():
            values.append(np.interp(part.fraction, stretch["at"], stretch[part.measure]))
    return float(np.mean(values)) if values else math.nan


def _metric(row: Row, values: Any) -> tuple[np.ndarray, str]:
    """Test metrics (seeds,) in the unit that people see, and that unit."""
    shown = show.shown_metric(str(row.constant("metric")))
    return values.to_numpy(dtype=float) * shown.factor, shown.unit


SAMPLES: dict[str, Callable[..., Sample]] = {
    "value": _value,
    "difference": _difference,
    "ratio": _ratio,
    "stability": _stability,
}
