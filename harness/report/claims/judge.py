"""From a claim and the records to a verdict.

Every test is a region that a number of ours must lie in (see `statistics.power`): `reproduced`
where its 95 % interval lies inside, `not reproduced` where it lies outside, `underpowered` between,
with the seeds that would decide where more seeds can. What was not run, or not as the suite has it,
is `not run`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from harness.report.claims.evidence import Absent, Evidence
from harness.report.claims.read import comparison_of
from harness.report.claims.samples import Sample, sample_of
from harness.report.claims.spec import Claim, Claims, Test, Tolerance
from harness.report.statistics.intervals import NO_WIDTH
from harness.report.statistics.power import MOST_SEEDS, decide, seeds_to_decide
from harness.suite import Comparison

Verdict = Literal["reproduced", "not reproduced", "underpowered", "not run"]
WORDS: dict[str, Verdict] = {
    "inside": "reproduced",
    "outside": "not reproduced",
    "undecided": "underpowered",
}
# A claim of several parts is what the first of these says that any part is.
WORST: tuple[Verdict, ...] = ("not reproduced", "not run", "underpowered", "reproduced")


@dataclass(frozen=True)
class Finding:
    """The verdict of one part, with what it rests on. Without numbers, a `reason` says why."""

    what: str
    asked: str
    verdict: Verdict = "not run"
    theirs: str = ""
    reason: str = ""
    why: str = ""
    tolerance: str = ""
    unit: str = ""
    signed: bool = False  # a difference, shown with its sign
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    seeds: int = 0
    seeds_needed: int | None = None


@dataclass(frozen=True)
class Judged:
    """A claim with one test of it, or without any.

    `partial_run` is the last command that ran the suite here, where it left out some of it.
    """

    claim: Claim
    test: Test | None
    verdict: Verdict
    reason: str = ""
    findings: tuple[Finding, ...] = field(default=())
    partial_run: str = ""

    @property
    def suite(self) -> str:
        """The suite that tests it; empty without one."""
        return self.test.suite if self.test is not None else ""

    @property
    def shared_reasons(self) -> list[str]:
        """Why there is no number, where that is so of several parts alike: said once."""
        counts = Counter(one.reason for one in self.findings if math.isnan(one.value))
        return [reason for reason, count in counts.items() if reason and count > 1]


def judge(
    claims: Claims, evidence: Mapping[str, Evidence], only: str | None = None
) -> list[Judged]:
    """A verdict for every test of every claim, or for those on one suite.

    `evidence` holds the suites that tests name, by that name; a claim without tests is told with
    its reason, unless one suite is asked for.

    Raises:
        ValueError: records that are damaged or cannot stand in one comparison.
    """
    found = []
    for claim in claims.claims:
        if not claim.tests and only is None:
            found.append(Judged(claim, None, "not run", claim.not_run))
        for test in claim.tests:
            if only in (None, test.suite):
                found.append(_judge(claim, test, evidence[test.suite], claims.tolerances))
    return found


def _judge(
    claim: Claim, test: Test, evidence: Evidence, tolerances: Mapping[str, Tolerance]
) -> Judged:
    if evidence.trials.empty:
        reason = f"no trial of {test.suite} has ended here"
        asked = tuple(_asked(claim, part, tolerances) for part in test.parts)
        return Judged(claim, test, "not run", reason, asked, evidence.partial_run)
    comparison = comparison_of(evidence.suite, test.comparison)
    findings = tuple(_part(claim, part, comparison, evidence, tolerances) for part in test.parts)
    verdicts = [finding.verdict for finding in findings]
    verdict = next(v for v in WORST if v in verdicts)
    return Judged(claim, test, verdict, "", findings, evidence.partial_run)


def _part(
    claim: Claim,
    part: Any,
    comparison: Comparison,
    evidence: Evidence,
    tolerances: Mapping[str, Tolerance],
) -> Finding:
    asked = _asked(claim, part, tolerances)
    try:
        sample = sample_of(claim, part, comparison, evidence, tolerances)
    except Absent as absent:
        return replace(asked, reason=str(absent))
    return _decided(sample, asked)


def _decided(sample: Sample, asked: Finding) -> Finding:
    interval, lost = sample.interval, sample.lost
    decision = decide(interval, *sample.region)
    needed = None
    reason = _undecidable(sample)
    if reason:
        decision = "undecided"
    elif decision == "undecided":
        needed = None if sample.best else _needed(sample)
        reason = "" if needed else _undecided(sample)
    known, wanted = sample.known
    if known < wanted and not lost:
        part = f"{known} of the suite's {wanted} seeds, so not final"
        reason = f"{part}; {reason}" if reason else part
    return replace(
        asked,
        verdict=WORDS[decision],
        reason=reason,
        unit=sample.unit,
        value=interval.mean,
        low=math.nan if lost else interval.low,
        high=math.nan if lost else interval.high,
        p=math.nan if lost else sample.p,
        seeds=interval.seeds,
        seeds_needed=needed,
    )


def _undecidable(sample: Sample) -> str:
    """Why the interval must not decide, wherever it lies; empty where it may."""
    interval = sample.interval
    if sample.lost:
        return f"{sample.lost} among its seeds, so no interval and no win is claimed"
    if sample.best and sample.known[0] < sample.known[1]:
        return "the published aggregate is over all of them"
    if interval.seeds < 2:
        return "one seed has no interval"
    if interval.high - interval.low <= NO_WIDTH and not sample.exact:
        return "all seeds are equal: the metric is too coarse for their spread to be known"
    return ""


def _undecided(sample: Sample) -> str:
    """Why no number of seeds is named that would decide."""
    if sample.best:
        return "the published aggregate is over these seeds alone, so more would not decide"
    return f"no number of seeds up to {MOST_SEEDS} would decide"


def _needed(sample: Sample) -> int | None:
    """Seeds that would decide if the mean and spread seen are the true ones."""
    (low, high), mean, values = sample.region, sample.interval.mean, sample.values
    if sample.logarithmic:
        low, high = (math.log(end) if end > 0 else -math.inf for end in (low, high))
        mean, values = math.log(mean), np.log(values)
    needed = seeds_to_decide(mean, float(values.std(ddof=1)), low, high)
    # More than there are: these have been asked already.
    return None if needed is None else max(needed, sample.interval.seeds + 1)


def _asked(claim: Claim, part: Any, tolerances: Mapping[str, Tolerance]) -> Finding:
    """What a part asks for, what was published, and why within so much; nothing of ours yet."""
    name = getattr(part, "tolerance", None) or getattr(part, "margin", None)
    tolerance = tolerances[name] if name else None
    return Finding(
        what=_what(part),
        asked=_goal(part, tolerance),
        theirs=_theirs(claim, part),
        tolerance=name or "",
        signed=part.kind == "difference",
        why=getattr(part, "why", None) or (tolerance.why if tolerance else ""),
    )


def _what(part: Any) -> str:
    if part.kind == "difference":
        return f"{part.row} minus {part.minus}"
    if part.kind == "ratio":
        both = f"{part.row} with {part.plus}" if part.plus else part.row
        return f"{part.column.replace('_', ' ')} of {part.to} over {both}"
    if part.kind == "stability":
        return f"{part.measure} with the end at {part.fraction * 100:g} % of training, {part.row}"
    return f"{part.column} of {part.row}"


def _goal(part: Any, tolerance: Tolerance | None) -> str:
    if part.kind == "difference":
        assert tolerance is not None
        margin = tolerance.points or 0.0
        return {
            "noninferior": f"above −{margin:g}",
            "better": f"above {margin:g}",
            "worse": f"below −{margin:g}" if margin else "below 0",
            "equivalent": f"within ±{margin:g}",
            "no_better": f"below {margin:g}",
        }[part.goal]
    if tolerance is not None:
        return f"within {tolerance.text}"
    return f"at least {part.at_least:g}"


def _theirs(claim: Claim, part: Any) -> str:
    value = getattr(part, "value", None)
    if value is not None:
        return f"{value:g}"
    if part.kind in ("difference", "stability") or not claim.value:
        return ""
    return claim.value + (f" ± {claim.plus_minus}" if claim.plus_minus else "")
