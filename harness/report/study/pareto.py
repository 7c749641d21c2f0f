"""The Pareto figure: every candidate's validation metric against its cost."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from harness.report.legend import FULL_LINE
from harness.report.statistics.intervals import direction
from harness.report.study.answer import pareto_front
from harness.report.style import (
    CANDIDATE,
    INK,
    MARGIN,
    PAPER,
    STOPPED,
    finalist_colours,
    name_points,
    nothing,
    shown,
)


def pareto(
    summary: pd.DataFrame,
    margin: float | None,
    finalists: Sequence[int],
    recommendation: Mapping[str, Any] | None,
) -> Figure:
    """The candidates of the search, its front, the margin, and the finalists on fresh seeds.

    A candidate is drawn at the mean of full size plus its own paired difference to it, so that one
    stopped after its first seeds is comparable with the others.
    """
    figure = Figure(figsize=(8.2, 4.9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_xlabel("total training FLOPs, relative to full size")
    known = _drawable(summary)
    if known.empty:
        nothing(axes, "no candidate has finished yet")
        return figure
    higher = bool(known.higher_is_better.iloc[0])
    sign = direction(higher)
    factor = shown(axes, str(known.metric.iloc[0]), higher, "validation")
    full = _full_level(known)
    points = known.assign(x=known.cost, y=(full + sign * known.difference) * factor)
    confirmed = _confirmed(recommendation, full, sign, factor)
    _candidates(axes, points)
    _front(axes, points[points.number.isin(pareto_front(summary))])
    _levels(axes, full, margin, sign, factor)
    _fresh(axes, points, confirmed)
    _frame(axes, points, confirmed, [full * factor], higher)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, frameon=False,
                handletextpad=0.5, columnspacing=1.6, fontsize=8.5)  # fmt: skip
    _names(axes, points, finalists, confirmed)
    return figure


def _drawable(summary: pd.DataFrame) -> pd.DataFrame:
    ended = summary[summary.state.isin(["complete", "stopped"])]
    return ended[ended.difference.notna() & ended.cost.notna()] if len(ended) else ended


def _full_level(known: pd.DataFrame) -> float:
    """Mean of full size over the seeds of complete candidates, or else of all candidates."""
    complete = known[known.state == "complete"]
    return float((complete if len(complete) else known).full_mean.mean())


def _candidates(axes: Axes, points: pd.DataFrame) -> None:
    stopped, complete = (points[points.state == state] for state in ("stopped", "complete"))
    paper = complete.paper.astype(bool)
    if len(stopped):
        axes.scatter(stopped.x, stopped.y, marker="x", s=26, color=STOPPED, linewidths=1.1,
                     label="stopped: first seeds only", zorder=2)  # fmt: skip
    if (~paper).any():
        axes.scatter(complete.x[~paper], complete.y[~paper], s=34, color=CANDIDATE, alpha=0.85,
                     edgecolors="white", linewidths=0.7, label="candidate, all seeds",
                     zorder=3)  # fmt: skip
    if paper.any():
        axes.scatter(complete.x[paper], complete.y[paper], s=95, marker="*", color=PAPER,
                     edgecolors="white", linewidths=0.7, label="the paper's window",
                     zorder=4)  # fmt: skip


def _front(axes: Axes, front: pd.DataFrame) -> None:
    if len(front):
        front = front.sort_values("x")
        axes.plot(front.x, front.y, drawstyle="steps-post", color=CANDIDATE, linewidth=1.3,
                  zorder=2, label="front of the search")  # fmt: skip


def _levels(axes: Axes, full: float, margin: float | None, sign: int, factor: float) -> None:
    axes.axhline(full * factor, color=INK, linewidth=0.9, linestyle=FULL_LINE, zorder=1)
    axes.plot([1.0], [full * factor], marker="s", markersize=7, color=INK, linestyle=FULL_LINE,
              linewidth=0.9, markeredgecolor="white", label="full size", zorder=4)  # fmt: skip
    if margin is not None:
        name = f"margin: {margin * factor:.4g}{' points' if factor == 100 else ''} from full"
        axes.axhline((full - sign * margin) * factor, color=MARGIN, linewidth=1.2,
                     linestyle="-.", zorder=1, label=name)  # fmt: skip


def _confirmed(
    recommendation: Mapping[str, Any] | None, full: float, sign: int, factor: float
) -> pd.DataFrame:
    """Finalists on fresh seeds: their difference to full, added to the full size of the search."""
    rows = recommendation["rows"] if recommendation else []
    rows = [row for row in rows if row["difference"] is not None and row["cost"] is not None]
    looks = finalist_colours([row["label"] for row in rows])
    found = [
        {
            "label": row["label"],
            "colour": looks[row["label"]],
            "x": row["cost"],
            **{
                end: np.nan if row[column] is None else (full + sign * row[column]) * factor
                for end, column in (("y", "difference"), ("low", "low"), ("high", "high"))
            },
        }
        for row in rows
    ]
    return pd.DataFrame(found, columns=["label", "colour", "x", "y", "low", "high"])


def _fresh(axes: Axes, points: pd.DataFrame, confirmed: pd.DataFrame) -> None:
    """Each finalist on fresh seeds, joined to its point in the search."""
    by_label = {f"c{p.number}": (p.x, p.y) for p in points.itertuples()}
    diamond: dict[str, Any] = {
        "marker": "D",
        "markersize": 6.5,
        "markerfacecolor": "white",
        "markeredgewidth": 1.6,
        "linestyle": "none",
        "zorder": 5,
    }
    if len(confirmed):
        axes.plot(
            [], [], markeredgecolor="#444444", label="on fresh seeds, 95 % interval", **diamond
        )
    for row in confirmed.itertuples():
        if np.isfinite(row.low):
            axes.vlines(row.x, *sorted([row.low, row.high]), color=row.colour, lw=1.4, zorder=4)
        axes.plot([row.x], [row.y], markeredgecolor=row.colour, **diamond)
        if row.label in by_label:
            x, y = by_label[row.label]
            axes.plot([x, row.x], [y, row.y], color=row.colour, lw=0.9, linestyle=":", zorder=4)


def _frame(
    axes: Axes, points: pd.DataFrame, confirmed: pd.DataFrame, levels: list[float], higher: bool
) -> None:
    """Logarithmic cost; the frame leaves out far outliers and counts them at its edge."""
    every = np.array([*points.x, *confirmed.x, 1.0])
    axes.set_xscale("log", base=2)
    axes.set_xlim(every.min() / 1.12, max(every.max(), 1.0) * 1.12)
    if every.max() / every.min() < 6:
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:g}×"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    bounds = [*confirmed.low.dropna(), *confirmed.high.dropna()]
    kept = np.array([*points.y[_near(points.y, higher)], *confirmed.y, *bounds, *levels])
    room = 0.06 * (np.ptp(kept) or abs(kept[0]) * 0.1 or 1.0)
    low, high = kept.min() - room, kept.max() + room
    axes.set_ylim(low, high)
    outside = int(((points.y < low) | (points.y > high)).sum())
    if outside:
        axes.text(0.995, 0.015 if higher else 0.985, f"{outside} more outside the frame",
                  transform=axes.transAxes, ha="right", va="bottom" if higher else "top",
                  fontsize=8, color="#555555")  # fmt: skip


def _near(values: pd.Series, higher: bool) -> pd.Series:
    """False for values more than 3 quartile ranges beyond the quartile, on the bad side."""
    worst, best = values.quantile([0.25, 0.75] if higher else [0.75, 0.25])
    reach = 3 * abs(best - worst)
    return values >= worst - reach if higher else values <= worst + reach


def _names(
    axes: Axes, points: pd.DataFrame, finalists: Sequence[int], confirmed: pd.DataFrame
) -> None:
    """Label the confirmed points or, before there are any, the finalists of the search."""
    if len(confirmed):
        names = confirmed.assign(name=confirmed.label)
    else:
        chosen = points[points.number.isin(list(finalists))]
        colours = finalist_colours([f"c{number}" for number in finalists])
        labels = [f"c{number}" for number in chosen.number]
        names = chosen.assign(name=labels, colour=[colours[label] for label in labels])
    name_points(axes, names, np.vstack([points[["x", "y"]].to_numpy(), *_lines(axes)]))


def _lines(axes: Axes) -> list[np.ndarray]:
    """Points (n, 2) along levels and intervals, which labels should not cross."""
    across = np.geomspace(*axes.get_xlim(), 80)
    data = [np.asarray(line.get_xydata()) for line in axes.lines]
    levels = [points[0, 1] for points in data if list(points[:, 0]) == [0, 1]]
    along = [np.column_stack([across, np.full(80, level)]) for level in levels]
    for collection in axes.collections:
        if isinstance(collection, LineCollection):
            for (x, low), (_, high) in collection.get_segments():
                along.append(np.column_stack([np.full(20, x), np.linspace(low, high, 20)]))
    return along
