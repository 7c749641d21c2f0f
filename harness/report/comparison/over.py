"""Paired differences of rows over a baseline: a row, or the same arm with one field at a value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from harness.report.comparison.compare import difference
from harness.report.comparison.costs import relative_flops
from harness.report.comparison.rows import Row, collect
from harness.report.comparison.variants import settings
from harness.tools.inputs import shown

COLUMNS = (
    "comparison", "task", "model", "protocol", "label", "over", "arm", "metric",
    "higher_is_better",
    "state_dim_mean", "over_state_dim_mean",  # states per block: mean over blocks and seeds
    "seeds",  # that both have finished
    "relative_flops",  # ratio of total FLOPs to the baseline's, same seeds
    "difference",  # in the metric's own unit, positive is better
    "difference_low", "difference_high",  # 95 % paired t, by seed
)  # fmt: skip
LISTED = 8  # names in a refusal


def over(trials: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Each row minus its baseline, with the columns of `COLUMNS`, in reading order.

    `baseline` is the label of a row, and all rows of its comparison are measured against it; or
    `FIELD=VALUE`, as `gramians=white`: each row is measured against the row that has this value and
    agrees with it in every other field of its arm. Rows without a baseline are left out.

    Raises:
        ValueError: no row has this label, or no two rows differ in this field alone; and as
            `rows.collect`.
    """
    rows = collect(trials)
    pairs = _over_row(rows, baseline)
    if not pairs and "=" in baseline:
        pairs = _over_value(rows, *baseline.split("=", 1))
    if not pairs:
        raise ValueError(_no_baseline(rows, baseline))
    return pd.DataFrame([_record(*pair) for pair in pairs], columns=list(COLUMNS))


def _over_row(rows: Sequence[Row], label: str) -> list[tuple[Row, Row]]:
    """Each row with the one of its comparison that has this label."""
    named = [row for row in rows if label in _names(row)]
    return [
        (row, other)
        for row in rows
        for other in named
        if row is not other and row.setting == other.setting
    ]


def _names(row: Row) -> tuple[str, ...]:
    """What a row is called: its label, also without its comparison's name."""
    return row.label, row.label.removeprefix(f"{row.comparison}: ")


def _over_value(rows: Sequence[Row], field: str, value: str) -> list[tuple[Row, Row]]:
    """Each row with the one that differs from it in this field alone and has this value there."""
    pairs = []
    for arm in dict.fromkeys(row.arm for row in rows):
        ours = [row for row in rows if row.arm == arm]
        known = [dict(one) for one in settings(ours)]
        values = [one.pop(field, None) for one in known]
        for row, rest, own in zip(ours, known, values, strict=True):
            other = next(
                (
                    ours[k]
                    for k, theirs in enumerate(known)
                    if _is(values[k], value) and theirs == rest and ours[k].setting == row.setting
                ),
                None,
            )
            if other is not None and not _is(own, value):
                pairs.append((row, other))
    return sorted(pairs, key=lambda pair: rows.index(pair[0]))


def _is(value: Any, text: str) -> bool:
    """Whether a value of a spec is the one that this text says; `none` says None."""
    if value is None:
        return text.lower() == "none"
    return text in (str(value), f"{value:g}" if isinstance(value, float) else str(value).lower())


def _record(row: Row, other: Row) -> dict[str, object]:
    found = difference(row, other)
    assert found is not None  # there is another row
    return {
        "comparison": row.comparison,
        "task": row.task,
        "model": row.model,
        "protocol": row.constant("protocol"),
        "label": row.label,
        "over": other.label,
        "arm": row.arm,
        "metric": row.constant("metric"),
        "higher_is_better": row.higher_is_better,
        "state_dim_mean": row.finished.state_dim_mean.astype(float).mean(),
        "over_state_dim_mean": other.finished.state_dim_mean.astype(float).mean(),
        "seeds": found.seeds,
        "relative_flops": relative_flops(row.finished, other),
        "difference": found.mean,
        "difference_low": found.low,
        "difference_high": found.high,
    }


def _no_baseline(rows: Sequence[Row], baseline: str) -> str:
    labels = list(dict.fromkeys(row.label for row in rows))
    listed = ", ".join(labels[:LISTED]) + (", ..." if len(labels) > LISTED else "")
    if "=" in baseline:
        return (
            f"no row is called {shown(baseline)}, and no two rows differ in that field alone, one "
            f"of them with that value; the rows are {listed}"
        )
    return f"no row is called {shown(baseline)}; use FIELD=VALUE or one of {listed}"


__all__ = ["COLUMNS", "over"]
