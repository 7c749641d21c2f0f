"""The map: start x tau of every candidate, coloured by its loss and by its cost."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from harness.report import presentation as show
from harness.report.style import finalist_colours, name_points, nothing

SMALLEST, LARGEST = 28.0, 190.0  # areas of markers, points squared
SIZES = 3  # in the legend


def timing_map(summary: pd.DataFrame, finalists: Sequence[int], log_tau: bool) -> Figure:
    """Two panels over the same candidates: the difference to full, and the cost.

    A marker's size is the length of the window; a dark edge marks a candidate stopped after its
    first seeds; finalists are ringed and named. The colour scale leaves out far outliers; an arrow
    on the colour bar shows it.
    """
    figure = Figure(figsize=(9.4, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    known = summary[summary.state.isin(["complete", "stopped"])]
    known = known[known.difference.notna() & known.cost.notna()] if len(known) else known
    if known.empty:
        for axes in panels:
            nothing(axes, "no candidate has finished yet")
        return figure
    metric = show.shown_metric(str(known.metric.iloc[0]))
    unit = "points" if metric.unit == "%" else metric.name
    _panel(figure, panels[0], known, known.difference * metric.factor, "viridis",
           f"difference to full, {unit}\n(positive is better)", log_tau)  # fmt: skip
    _panel(figure, panels[1], known, known.cost, "cividis_r",
           "total training FLOPs,\nrelative to full size", log_tau)  # fmt: skip
    panels[0].set_title("What it loses", loc="left")
    panels[1].set_title("What it costs", loc="left")
    panels[0].set_ylabel("tau: share of Hankel energy\ndiscarded at each truncation")
    _legend(figure, known)
    for axes in panels:
        _finalists(axes, known, finalists)
    return figure


def _finalists(axes: Axes, known: pd.DataFrame, finalists: Sequence[int]) -> None:
    """A ring and a name for each, in its colour from the other figures."""
    colours = finalist_colours([f"c{number}" for number in finalists])
    chosen = known[known.number.isin(list(finalists))]
    names = pd.DataFrame(
        {
            "x": 100 * chosen.start,
            "y": chosen.tau,
            "name": [f"c{number}" for number in chosen.number],
            "colour": [colours[f"c{number}"] for number in chosen.number],
        }
    )
    axes.scatter(names.x, names.y, s=_areas(chosen.length, known.length) + 90, facecolors="none",
                 edgecolors=list(names.colour), linewidths=1.8, zorder=4)  # fmt: skip
    name_points(axes, names, np.column_stack([100 * known.start, known.tau]))


def _panel(
    figure: Figure, axes: Axes, known: pd.DataFrame, values: pd.Series, colours: str, title: str,
    log_tau: bool,
) -> None:  # fmt: skip
    low, high, extend = _limits(values)
    drawn: Any = None
    # Long windows first, so that short ones are drawn on top of them.
    order = known.assign(value=values, size=_areas(known.length, known.length))
    order = order.sort_values("size", ascending=False)
    for state, edge, dash in (("stopped", "#333333", "--"), ("complete", "white", "-")):
        rows = order[order.state == state]
        drawn = axes.scatter(
            100 * rows.start, rows.tau, s=rows["size"], c=rows.value, cmap=colours, vmin=low,
            vmax=high, alpha=0.9, edgecolors=edge, linewidths=0.9, linestyles=dash,
            zorder=2 if state == "stopped" else 3,
        )  # fmt: skip
    bar = figure.colorbar(drawn, ax=axes, extend=extend, pad=0.02, aspect=28)
    bar.set_label(title)
    bar.outline.set_visible(False)  # type: ignore[operator]
    axes.set_xlabel("start of the window, % of training")
    axes.margins(0.09)
    if log_tau and (known.tau > 0).all():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _limits(values: pd.Series) -> tuple[float, float, str]:
    """Ends of the colour scale: the values' range, at most 2 quartile ranges past the quartiles."""
    lower, upper = values.quantile([0.25, 0.75])
    reach = 2 * (upper - lower)
    low, high = max(values.min(), lower - reach), min(values.max(), upper + reach)
    below, above = values.min() < low, values.max() > high
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    return float(low), float(high), extend.get((bool(below), bool(above)), "neither")


def _areas(lengths: Any, all_lengths: pd.Series) -> Any:
    """Marker areas for window lengths: from `SMALLEST` to `LARGEST` over all candidates."""
    low, high = all_lengths.min(), all_lengths.max()
    share = (lengths - low) / (high - low) if high > low else lengths * 0 + 0.4
    return SMALLEST + (LARGEST - SMALLEST) * share


def _legend(figure: Figure, known: pd.DataFrame) -> None:
    low, high = known.length.min(), known.length.max()
    lengths = np.unique(np.linspace(low, high, SIZES if high > low else 1).round(2))
    handles = [
        Line2D(
            [], [], marker="o", linestyle="none", markerfacecolor="#b5b9bf",
            markeredgecolor="white", markersize=float(np.sqrt(_areas(length, known.length))),
            label=f"{round(100 * length):g} %",
        )
        for length in lengths
    ]  # fmt: skip
    title = Line2D([], [], linestyle="none", label="window length:")
    if (known.state == "stopped").any():
        # A separate entry: legends cannot draw a dashed marker edge.
        handles.append(
            Line2D([], [], marker="o", linestyle="none", markersize=9, markerfacecolor="white",
                   markeredgecolor="#333333", label="dark edge: stopped, first seeds only")
        )  # fmt: skip
    figure.legend(handles=[title, *handles], loc="outside upper left", ncols=len(handles) + 1,
                  frameon=False, handletextpad=0.4, columnspacing=1.4, fontsize=8.5)  # fmt: skip
