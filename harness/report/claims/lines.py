"""Verdicts as text for a terminal, and as JSON."""

from __future__ import annotations

import json
import math
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from harness.report import presentation as show
from harness.report.claims.judge import Finding, Judged
from harness.report.claims.spec import Claims

WIDTH = 120  # columns of a terminal
INDENT = 16
DECIMALS = {"%": 1, "points": 1, "states": 1, "x": 2, "": 3}
NOTES = (
    "Ours comes with its 95 % interval. Reproduced: the interval lies inside the region asked for. "
    "Not reproduced: it lies outside. Underpowered: neither; the number of seeds that would decide "
    "is for a power of 80 % and takes the mean and spread seen here as true. A row with a diverged "
    "or failed seed has no interval.",
    "Differences are paired by seed and positive if the first row is better. Speeds are geometric "
    "means over seeds of trials that were timed alone.",
    "metric_top3 is the published aggregate, the mean of the best three seeds by test. For normal "
    "seeds it lies 0.55 (of 5) or 1.07 (of 10) standard deviations above the mean of all. More "
    "seeds would change its meaning, so no number that would decide is given. Its interval is that "
    "of normal seeds, which covers 95 %; a bootstrap would cover 75 to 80 %.",
    "An analogue tests the claim on another task or size than the paper's, so no outcome of it "
    "reproduces the paper's own number.",
)


def text(judged: Sequence[Judged], claims: Claims) -> str:
    """Every verdict by suite, then the notes and the tolerances."""
    lines = [summary(judged)]
    for suite in dict.fromkeys(one.suite for one in judged):
        members = [one for one in judged if one.suite == suite]
        title = suite or "not tested here"
        lines += ["", f"{title}: {summary(members)}"]
        if members[0].partial_run:
            lines += textwrap.wrap(partial(members[0]), WIDTH, break_long_words=False)
        for one in members:
            lines += ["", *_entry(one)]
    lines += ["", "How to read it", *_bullets(NOTES)]
    used = dict.fromkeys(f.tolerance for one in judged for f in one.findings if f.tolerance)
    if used:
        lines += ["", "Tolerances, and why"]
        reasons = ((name, claims.tolerances[name]) for name in used)
        lines += _bullets(f"{name}, {one.text}: {one.why}" for name, one in reasons)
    return "\n".join(lines)


def summary(judged: Sequence[Judged]) -> str:
    """`12 verdicts: 2 reproduced, 10 not run`."""
    counts = Counter[str](one.verdict for one in judged)
    order = ("reproduced", "not reproduced", "underpowered", "not run")
    listed = ", ".join(f"{counts[word]} {word}" for word in order if counts[word])
    return f"{len(judged)} verdicts: {listed}"


def as_json(judged: Sequence[Judged], claims: Claims) -> str:
    """Everything as JSON; undefined numbers are null."""
    document = {
        "version": 1,
        "tolerances": {name: one.model_dump() for name, one in claims.tolerances.items()},
        "verdicts": [_record(one) for one in judged],
        "notes": list(NOTES),
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)


def partial(one: Judged) -> str:
    """What a suite may lack after a partial run, and how to complete it."""
    return (
        f"The last run here was: {one.partial_run}. The tables hold only what it asked for; "
        f"`harness run {one.suite}` adds the rest from the store and trains what is missing."
    )


def said(finding: Finding) -> str:
    """`ours 97.1 % (96.8 to 97.4), 10 seeds; theirs 97.3; asked within ±1`, and more."""
    parts = [ours(finding)]
    if finding.theirs:
        parts.append(f"theirs {finding.theirs}")
    parts.append(f"asked {finding.asked}")
    if finding.reason and math.isfinite(finding.value):
        parts.append(finding.reason)
    if finding.seeds_needed:
        parts.append(f"about {finding.seeds_needed} seeds would decide")
    return "; ".join(parts)


def ours(finding: Finding) -> str:
    """Our number with its interval and seeds, or the reason why there is none."""
    if not math.isfinite(finding.value):
        return finding.reason or "no number"
    decimals = DECIMALS[finding.unit]
    signed = finding.signed
    value, low, high = (
        show.plain(number, decimals, signed)
        for number in (finding.value, finding.low, finding.high)
    )
    unit = f" {finding.unit}" if finding.unit else ""
    interval = f" ({low} to {high})" if math.isfinite(finding.low) else ""
    return f"ours {value}{unit}{interval}, {finding.seeds} seeds"


def _entry(one: Judged) -> list[str]:
    claim, test = one.claim, one.test
    analogue = " [analogue]" if test is not None and test.analogue else ""
    lines = _wrapped(f"{claim.id}{analogue}: {claim.statement}", one.verdict)
    if one.reason:
        lines += _wrapped(f"{one.verdict}: {one.reason}")
    shared = one.shared_reasons
    for reason in shared:
        lines += _wrapped(reason)
    for finding in one.findings:
        own = f"{finding.verdict}, " if len(one.findings) > 1 and not one.reason else ""
        numbers = wanted(finding) if one.reason or finding.reason in shared else said(finding)
        lines += _wrapped(f"{own}{finding.what}: {numbers}")
        if finding.why and not finding.tolerance:
            lines += _wrapped(f"why: {finding.why}")
    if not one.findings and claim.value:
        lines += _wrapped(f"theirs {claim.value} ({claim.metric})")
    if test is not None and test.leaves_out:
        lines += _wrapped(f"not tested: {test.leaves_out}")
    note = f"; {claim.note}" if claim.note else ""
    return lines + _wrapped(f"confidence {claim.confidence}; source {claim.source}{note}")


def wanted(finding: Finding) -> str:
    """What was published and what is asked, for a part without a number of ours."""
    theirs = f"theirs {finding.theirs}; " if finding.theirs else ""
    return f"{theirs}asked {finding.asked}"


def _wrapped(sentence: str, first: str = "") -> list[str]:
    return textwrap.wrap(
        sentence, WIDTH, initial_indent=f"  {first}".ljust(INDENT + 2),
        subsequent_indent=" " * (INDENT + 2), break_long_words=False,
    )  # fmt: skip


def _bullets(sentences: Iterable[str]) -> list[str]:
    return [
        line
        for sentence in sentences
        for line in textwrap.wrap(sentence, WIDTH, initial_indent="- ", subsequent_indent="  ")
    ]


def _record(one: Judged) -> dict[str, Any]:
    claim, test = one.claim, one.test
    return {
        **claim.model_dump(include=set(type(claim).model_fields) - {"tests", "not_run"}),
        "suite": one.suite or None,
        "analogue": test is not None and test.analogue,
        "leaves_out": test.leaves_out if test is not None else "",
        "verdict": one.verdict,
        "reason": one.reason,
        "partial_run": one.partial_run or None,
        "parts": [{k: _plain(v) for k, v in asdict(f).items()} for f in one.findings],
    }


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
