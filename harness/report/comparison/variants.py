"""What tells the rows of one arm apart besides their size: the fields of the arm's spec."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from harness.arms import of_kind
from harness.report.comparison.rows import Row

PREFIX = "spec.arm."


def variants(rows: Sequence[Row]) -> list[str | None]:
    """For each row the fields in which it may differ from rows of its arm, with their values.

    JSON, `{"gramians": "task"}`; None for a row whose arm has no such field. Rows are held against
    those of the same arm, comparison, task and model. Fields that say how small the model gets are
    left out, and so is a field that tells no two rows apart that the ones before it do not.
    """
    places: dict[Any, list[int]] = {}
    for number, row in enumerate(rows):
        places.setdefault((row.comparison, row.task, row.model, row.arm), []).append(number)
    found: list[str | None] = [None] * len(rows)
    for members in places.values():
        values = settings([rows[number] for number in members], sizes=False)
        names = _telling(values)
        for number, row_values in zip(members, values, strict=True):
            chosen = {name: row_values[name] for name in names}
            found[number] = json.dumps(chosen, ensure_ascii=False) if chosen else None
    return found


def fields(variant: object) -> dict[str, Any]:
    """The fields of a variant, as `variants` writes it; empty for none."""
    return json.loads(variant) if isinstance(variant, str) else {}


def settings(rows: Sequence[Row], sizes: bool = True) -> list[dict[str, Any]]:
    """The fields of the arm of each row, all of one arm, in the order of its spec.

    Without `sizes`, those that say how small the model gets are left out. A field that was not
    recorded, since it is younger than the record, has its default.
    """
    arm = of_kind(rows[0].arm)
    known = list(arm.model_fields)
    columns = {
        column.removeprefix(PREFIX)
        for row in rows
        for column in row.every.columns
        if column.startswith(PREFIX)
    }
    left_out = {"kind"} if sizes else arm.sizing | {"kind"}
    names = [
        name
        for name in sorted(columns, key=lambda name: (_place(name, known), name))
        if name.partition(".")[0] not in left_out
    ]
    return [{name: _value(row, name, arm) for name in names} for row in rows]


def _place(name: str, known: list[str]) -> int:
    first = name.partition(".")[0]
    return known.index(first) if first in known else len(known)


def _value(row: Row, name: str, arm: Any) -> Any:
    """The row's value; several, joined, if its trials differ."""
    field = arm.model_fields.get(name)
    default = field.default if field is not None else None
    default = default if isinstance(default, str | bool | int | float) else None
    column = row.every.get(PREFIX + name)
    values = [] if column is None else list(column.dropna().unique())
    if not values:
        return default
    if len(values) > 1:
        return ", ".join(sorted(map(str, values)))
    value = values[0].item() if isinstance(values[0], np.generic) else values[0]
    # A table makes floats of whole numbers in a column with gaps.
    return type(default)(value) if isinstance(default, int) else value


def _telling(values: Sequence[dict[str, Any]]) -> list[str]:
    """The fields that tell rows apart, in order; each splits rows that those before it do not."""
    chosen: list[str] = []
    groups = 1
    for name in values[0] if values else ():
        split = pd.Series([str([one[n] for n in (*chosen, name)]) for one in values]).nunique()
        if split > groups:
            chosen, groups = [*chosen, name], split
    return chosen


__all__ = ["fields", "settings", "variants"]
