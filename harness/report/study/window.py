"""The paper's claim that the truncation window hardly matters, tested on confirmation seeds.

Each test pairs, by seed, a row with another window and one with the paper's, on the test metric.
The rows may differ in more than the window: `differs` lists what, and only a test where it is empty
isolates the window. The suite may hold twins for this: `window c12` is c12 with the paper's window.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from harness.arms import InTrainingSpec
from harness.report.statistics.intervals import NO_WIDTH, paired_difference

PAPER = "paper"
TWIN = "window "  # label prefix of a row that differs from another only in its window
ARM = "spec.arm."
WINDOW = ("start", "end")
SETTING = (*WINDOW, "count", "tau")


def window_tests(
    trials: pd.DataFrame,
    rows: Sequence[dict[str, Any]],
    recommended: str | None,
    margin: float | None,
) -> list[dict[str, Any]]:
    """The tests that the confirmation allows: twins first, then the paper's setting.

    `rows` are those of `answer.recommend`, in the order of its labels. The paper's setting is
    tested against `recommended` or, if that is None or the paper's own, against the row in another
    window with the best mean validation difference to full. `difference` (with its 95 % t interval)
    is `other` minus `paper`, positive if `other` is better. `verdict` is `matters` if the interval
    excludes 0, `hardly` if it lies within ±`margin`, else `undecided`.
    """
    twins = [(f"{TWIN}{row['label']}", row["label"]) for row in rows]
    pairs = [pair for pair in twins if _both(trials, pair) and not _same_window(trials, *pair)]
    other = _other_window(trials, rows, recommended)
    if other is not None:
        pairs.append((PAPER, other))
    return [_test(trials, paper, other, margin) for paper, other in pairs]


def setting(trials: pd.DataFrame, label: str) -> dict[str, Any]:
    """`start`, `end`, `count` and `tau` of the row's arm, with its other non-default fields as
    `options`; empty if the table has no specs."""
    fields = _arm(trials, label)
    found = {name: fields[name] for name in SETTING if name in fields}
    options = {
        name: fields[name]
        for name, field in InTrainingSpec.model_fields.items()
        if name in fields and name not in (*SETTING, "kind") and fields[name] != field.default
    }
    if found and options:
        found["options"] = options
    if "count" in found:
        found["count"] = int(found["count"])
    return found


def _other_window(
    trials: pd.DataFrame, rows: Sequence[dict[str, Any]], recommended: str | None
) -> str | None:
    if not (trials.label == PAPER).any():
        return None
    elsewhere = [
        row
        for row in rows
        if row["difference"] is not None
        and row["label"] != PAPER
        and not _same_window(trials, PAPER, row["label"])
    ]
    if any(row["label"] == recommended for row in elsewhere):
        return recommended
    best = max(elsewhere, key=lambda row: row["difference"], default=None)
    return best["label"] if best else None


def _both(trials: pd.DataFrame, labels: Sequence[str]) -> bool:
    return all((trials.label == label).any() for label in labels)


def _same_window(trials: pd.DataFrame, one: str, other: str) -> bool:
    ours, theirs = (_arm(trials, label) for label in (one, other))
    return all(name in ours and ours[name] == theirs.get(name) for name in WINDOW)


def _test(
    trials: pd.DataFrame, paper: str, other: str, margin: float | None
) -> dict[str, Any]:  # fmt: skip
    ours, theirs = (trials[trials.label == label] for label in (other, paper))
    whole = bool((ours.status == "completed").all() and (theirs.status == "completed").all())
    ours, theirs = _by_seed(ours), _by_seed(theirs)
    seeds = ours.index.intersection(theirs.index)
    ours, theirs = ours.loc[seeds], theirs.loc[seeds]
    higher = bool(ours.higher_is_better.iloc[0]) if len(seeds) else True
    found = paired_difference(
        ours.test_metric.to_numpy(float), theirs.test_metric.to_numpy(float), 0.95, higher
    )
    certain = whole and found.high - found.low > NO_WIDTH
    low, high = (found.low, found.high) if certain else (math.nan, math.nan)
    one, two = _arm(trials, other), _arm(trials, paper)
    return {
        "paper": paper,
        "other": other,
        "paper_setting": setting(trials, paper),
        "other_setting": setting(trials, other),
        "differs": sorted(
            name for name in one if name not in WINDOW and one[name] != two.get(name)
        ),
        "seeds": len(seeds),
        "difference": _json(found.mean),
        "low": _json(low),
        "high": _json(high),
        "paper_states": _mean(theirs.state_dim_mean),
        "other_states": _mean(ours.state_dim_mean),
        "cost_ratio": _ratio(ours.flops_method, theirs.flops_method),
        "verdict": _verdict(low, high, margin),
    }


def _verdict(low: float, high: float, margin: float | None) -> str:
    if low > 0 or high < 0:
        return "matters"
    if margin is not None and -margin <= low and high <= margin:
        return "hardly"
    return "undecided"


def _by_seed(trials: pd.DataFrame) -> pd.DataFrame:
    numbers = pd.to_numeric(trials.test_metric, errors="coerce").astype(float)
    done = trials[(trials.status == "completed") & np.isfinite(numbers)]
    return done.drop_duplicates("seed").set_index("seed").sort_index()


def _arm(trials: pd.DataFrame, label: str) -> dict[str, Any]:
    """The fields that the row's arm has."""
    line = trials[trials.label == label].iloc[0]
    fields = {name.removeprefix(ARM): line[name] for name in trials if str(name).startswith(ARM)}
    return {name: value for name, value in fields.items() if not pd.isna(value)}


def _mean(column: pd.Series) -> float | None:
    return _json(float(column.astype(float).mean()))


def _ratio(ours: pd.Series, theirs: pd.Series) -> float | None:
    above, below = float(ours.astype(float).mean()), float(theirs.astype(float).mean())
    return _json(above / below) if below > 0 else None


def _json(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None
