"""One line per row of a comparison, for comparisons with too many rows for a scatter plot."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harness.report import presentation as show
from harness.report.looks import Look
from harness.report.panels import MOST_PANELS, say_rest

MOST_LINES = 1000  # rows of all panels, but at least one panel is whole
WIDTH, LINE, AROUND = 9.2, 0.19, 0.75  # inches: the figure, a row, title and axis


def every_row(comparison: pd.DataFrame, looks: Mapping[Any, Look]) -> Figure | None:
    """Test metric of each row with its interval, in the table's order; None if none is crowded.

    `looks` has the look of each row by its index.
    """
    every = [(name, rows) for name, rows in show.sections(comparison) if show.is_crowded(rows)]
    if not every:
        return None
    lines = list(accumulate(len(rows) for _, rows in every))
    sections = every[: max(1, bisect_right(lines, MOST_LINES))][:MOST_PANELS]
    heights = [LINE * len(rows) + AROUND for _, rows in sections]
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    say_rest(figure, sections, every)
    grid = figure.subplots(len(sections), squeeze=False, height_ratios=heights).ravel()
    for axes, (name, rows) in zip(grid, sections, strict=True):
        axes.set_title(name, loc="left")
        _panel(axes, rows, looks)
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, looks: Mapping[Any, Look]) -> None:
    shown = show.shown_metric(str(rows.metric.iloc[0]))
    better = "higher" if rows.higher_is_better.iloc[0] else "lower"
    unit = f", {shown.unit}" if shown.unit else ""
    for row in rows[show.are_baseline(rows.arm, "full")].itertuples():
        axes.axvline(row.metric_mean * shown.factor, color="black", linewidth=0.9, linestyle="--")
    names = []
    for place, (index, row) in enumerate(rows.iterrows()):
        colour, marker = looks[index].colour, looks[index].marker
        names.append(str(row.label))
        aside = f"{show.state_dim(row)} states, {show.factor(row.relative_flops)} FLOPs"
        axes.text(
            1.01, place, aside, transform=axes.get_yaxis_transform(), va="center", fontsize=7.5
        )
        mean, low, high = (
            row[c] * shown.factor for c in ("metric_mean", "metric_low", "metric_high")
        )
        if not math.isfinite(mean):
            continue
        if math.isfinite(low):
            axes.plot([low, high], [place, place], color=colour, linewidth=1.4)
        axes.plot(mean, place, marker=marker, color=colour, markersize=5.5, linestyle="none")
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"test {shown.name}{unit} ({better} is better)")
