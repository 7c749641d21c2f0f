"""Paired differences over a baseline as a table: text, md, csv or json."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pandas as pd

from harness.report import presentation as show
from harness.report.tables import escape_markdown
from harness.tools.inputs import shown

NOTE = (
    "Differences of test metrics are paired by seed; positive means better, whatever the metric's "
    "direction. ± is half the width of a 95 % interval (Student t), which is not adjusted for the "
    "number of rows. FLOPs are those of the whole arm, relative to the baseline's."
)
CELLS: dict[str, Callable[[pd.Series], str]] = {
    "row": lambda row: str(row.label),
    "over": lambda row: str(row.over),
    "states": lambda row: _states(row),
    "seeds": lambda row: str(row.seeds),
    "FLOPs": lambda row: show.factor(row.relative_flops),
    "difference": lambda row: show.plus_minus(
        row.difference, row.difference_high, row.metric, signed=True
    ),
}
LEFT = ("row", "over")  # columns of words; numbers are aligned right


def render_over(differences: pd.DataFrame, format: str = "text") -> str:
    """The differences of `comparison.over` in one of `FORMATS`, ending in a newline.

    Text and md show readable units, csv and json every column in its stored unit.

    Raises:
        ValueError: another format.
    """
    if format not in FORMATS:
        raise ValueError(
            f"unknown format {shown(format)} for differences: use one of {', '.join(FORMATS)}"
        )
    return FORMATS[format](differences).rstrip("\n") + "\n"


def _states(row: pd.Series) -> str:
    """The row's states per block, and those of its baseline if they are others."""
    ours, theirs = (
        f"{size:.1f}".removesuffix(".0") if math.isfinite(size) else show.DASH
        for size in (row.state_dim_mean, row.over_state_dim_mean)
    )
    return ours if ours == theirs else f"{ours} vs {theirs}"


def _tables(differences: pd.DataFrame) -> list[tuple[str, list[list[str]]]]:
    """The cells of each section with its heading; the first line is the names of the columns."""
    return [
        (
            show.heading(name, rows.iloc[0]),
            [list(CELLS), *([cell(row) for cell in CELLS.values()] for _, row in rows.iterrows())],
        )
        for name, rows in show.sections(differences)
    ]


def _text(differences: pd.DataFrame) -> str:
    tables = _tables(differences)
    every = [line for _, lines in tables for line in lines]
    widths = [max(map(len, column)) for column in zip(*every, strict=True)]
    parts = []
    for heading, lines in tables:
        parts.append(heading)
        for line in lines:
            cells = zip(CELLS, line, widths, strict=True)
            padded = [c.ljust(w) if name in LEFT else c.rjust(w) for name, c, w in cells]
            parts.append(("  " + "  ".join(padded)).rstrip())
        parts.append("")
    return "\n".join([*parts, NOTE])


def _markdown(differences: pd.DataFrame) -> str:
    parts = []
    for heading, (names, *lines) in _tables(differences):
        parts += [f"**{escape_markdown(heading)}**", "", "| " + " | ".join(names) + " |"]
        parts.append("|" + "|".join("---" if name in LEFT else "---:" for name in names) + "|")
        parts += ["| " + " | ".join(map(escape_markdown, line)) + " |" for line in lines] + [""]
    return "\n".join([*parts, NOTE])


def _csv(differences: pd.DataFrame) -> str:
    return differences.to_csv(index=False)


def _json(differences: pd.DataFrame) -> str:
    rows = json.loads(differences.to_json(orient="records", double_precision=15))
    document = {"version": 1, "rows": rows, "notes": [NOTE]}
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)


FORMATS: dict[str, Callable[[pd.DataFrame], str]] = {
    "text": _text,
    "md": _markdown,
    "csv": _csv,
    "json": _json,
}

__all__ = ["FORMATS", "render_over"]
