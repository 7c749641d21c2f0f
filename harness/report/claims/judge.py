"""From a claim and the records to a verdict.

Every test is a region that our number must lie in (see `statistics.power`): `reproduced` if its
95 % interval lies inside, `not reproduced` if it lies outside, else `underpowered`, with the number
of seeds that would decide, if any number can. `not run` means that trials are missing or were not
run as the suite defines them.
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
# A claim's verdict is the first of these that any of its parts has.
WORST: tuple[Verdict, ...] = ("not reproduced", "not run", "underpowered", "reproduced")


@dataclass(frozen=True)
class Finding:
    """The verdict on one part, with its evidence. Without numbers, `reason` says why."""

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
    """A claim with one of its tests, or without any.

    `partial_run` is the last command that ran the suite here, if it left out some of it.
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
        """Reasons for missing numbers that several parts have in common, without repeats."""
        counts = Counter(one.reason for one in self.findings if math.isnan(one.value))
        return [reason for reason, count in counts.items() if reason and count > 1]


def judge(
    claims: Claims, evidence: Mapping[str, Evidence], only: str | None = None
) -> list[Judged]:
    """A verdict for every test of every claim, or for those on one suite.

    `evidence` maps the suites that tests name to their records. Claims without tests are listed
    with their reason unless `only` names a suite.

    Raises:
        ValueError: records that are damaged or cannot be compared with each other.
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
    """Why the interval cannot decide; empty if it can."""
    interval = sample.interval
    if sample.lost:
        return f"{sample.lost} among its seeds, so no interval and no win is claimed"
    if sample.best and sample.known[0] < sample.known[1]:
        return "the published aggregate is over all of them"
    if interval.seeds < 2:
        return "one seed has no interval"
    if interval.high - interval.low <= NO_WIDTH and not sample.exact:
        return "all seeds are equal: the metric is too coarse to show their spread"
    return ""


def _undecided(sample: Sample) -> str:
    """Why no number of seeds that would decide is given."""
    if sample.best:
        return "the published aggregate is over these seeds alone, so more would not decide"
    return f"no number of seeds up to {MOST_SEEDS} would decide"


def _needed(sample: Sample) -> int | None:
    """The seeds that would decide if the observed mean and spread are the true ones."""
    (low, high), mean, values = sample.region, sample.interval.mean, sample.values
    if sample.logarithmic:
        low, high = (math.log(end) if end > 0 else -math.inf for end in (low, high))
        mean, values = math.log(mean), np.log(values)
    needed = seeds_to_decide(mean, float(values.std(ddof=1)), low, high)
    # More than there are: these have not decided.
    return None if needed is None else max(needed, sample.interval.seeds + 1)


def _asked(claim: Claim, part: Any, tolerances: Mapping[str, Tolerance]) -> Finding:
    """What a part asks for, what was published, and the tolerance with its reason."""
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
