"""The figures of a study as files: Pareto, importance, the map, and the finalists over time.

Each is drawn once and saved as png and svg; the same records give the same bytes.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harness.report.figures import DPI, STYLE
from harness.report.study.importance import TOGETHER, Importance
from harness.report.study.over_time import over_time
from harness.report.study.pareto import pareto
from harness.report.study.timing_map import timing_map
from harness.report.style import nothing

BARS = {"metric": ("Validation metric", "#0072B2"), "cost": ("Training FLOPs", "#E69F00")}
TOGETHER_COLOUR = "#b5b9bf"


def draw(
    record: Mapping[str, Any],
    summary: pd.DataFrame,
    shares: Importance,
    trials: pd.DataFrame | None,
    curves: pd.DataFrame | None,
    truncations: pd.DataFrame | None,
) -> dict[str, bytes]:
    """File name (`pareto.png`, ...) to content; `over_time` only after the confirmation has begun.

    `record` is the study's, `summary` and `shares` are `answer.summarise`'s and
    `importance.importance`'s, the rest are the tables of the confirmation.
    """
    study = record["study"]
    log_tau = bool(study["space"]["tau"].get("log"))
    files: dict[str, bytes] = {}
    with mpl.rc_context(STYLE):
        chosen = pareto(summary, study["margin"], record["finalists"], record["recommendation"])
        files |= _saved("pareto", chosen)
        files |= _saved("map", timing_map(summary, record["finalists"], log_tau))
        files |= _saved("importance", importance_bars(shares))
        if trials is not None and curves is not None and truncations is not None:
            competing = competitors(record, trials)
            files |= _saved("over_time", over_time(trials, curves, truncations, competing))
    return files


def competitors(record: Mapping[str, Any], trials: pd.DataFrame) -> list[str]:
    """The labels that the recommendation chose from or, before that, paper and finalists."""
    if record["recommendation"]:
        return [str(row["label"]) for row in record["recommendation"]["rows"]]
    named: Sequence[str] = ["paper", *(f"c{number}" for number in record["finalists"])]
    return [label for label in named if (trials.label == label).any()]


def importance_bars(shares: Importance) -> Figure:
    """A bar per knob, for the metric and for the cost, with whiskers over the bootstrap."""
    figure = Figure(figsize=(8.2, 2.9), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True, sharex=True)
    for axes, (target, (what, colour)) in zip(panels, BARS.items(), strict=True):
        axes.set_title(what, loc="left")
        if shares.table is None:
            nothing(axes, shares.reason or "")
            continue
        rows = shares.table[shares.table.target == target].iloc[::-1]
        if rows.value.isna().all():
            _named_rows(axes, rows)
            axes.text(50, (len(rows) - 1) / 2, "does not vary", ha="center", va="center")
        else:
            _bars(axes, rows, colour)
    return figure


def _bars(axes: Axes, rows: pd.DataFrame, colour: str) -> None:
    places = np.arange(len(rows))
    colours = [TOGETHER_COLOUR if knob == TOGETHER else colour for knob in rows.knob]
    axes.barh(places, 100 * rows.value, height=0.62, color=colours, alpha=0.85, zorder=2)
    axes.hlines(places, 100 * rows.low, 100 * rows.high, color="#333333", lw=1.4, zorder=3)
    for end in (rows.low, rows.high):
        axes.plot(100 * end, places, marker="|", markersize=7, color="#333333", linestyle="none",
                  markeredgewidth=1.4, zorder=3)  # fmt: skip
    _named_rows(axes, rows)


def _named_rows(axes: Axes, rows: pd.DataFrame) -> None:
    axes.set_yticks(np.arange(len(rows)), list(rows.knob))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of the variance, %")


def _saved(name: str, figure: Figure) -> dict[str, bytes]:
    FigureCanvasAgg(figure)
    files = {}
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
        files[f"{name}.{kind}"] = buffer.getvalue()
    return files
