"""The figure of rank stability: how the ranking of modes settles, beside the HSVs themselves.

One row of panels per comparison: rank correlation with the end, overlap with the final top modes,
and some sorted Hankel singular values of full size over training.
"""

import io
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from harness.report import presentation as show
from harness.report.figures import DPI, STYLE, WIDTH
from harness.report.looks import SOFT
from harness.report.panels import MOST_PANELS, say_rest
from harness.report.ranks.rank_stability import TOP, by_row, over_blocks

PANEL_HEIGHT = 2.4  # inches
MOST_ROWS = 4  # in-training rows that are drawn, chosen evenly
FULL = "#000000"
SHADES = ("#0072B2", "#56B4E9", "#CC79A7", "#D55E00")
NAME = "rank_stability"
CAPTION = (
    "How early the ranking of modes becomes final. Left: rank correlation (Spearman) of the modes' "
    "shares of the Hankel energy with those at the end of the stretch. Middle: the fraction of the "
    "final largest quarter that is in the largest quarter already. Both are means over blocks and "
    "seeds, with the range over seeds for full size. A stretch ends where a truncation changes the "
    "modes, so in-training rows have several. Modes are identified by their place among the "
    "parameters. Right: sorted Hankel singular values of full size (median over blocks and seeds). "
    "Alone they prove nothing about the ranking: they may stay the same while modes trade places."
)


def draw(stability: pd.DataFrame, trials: pd.DataFrame, spectra: pa.Table) -> dict[str, bytes]:
    """The figure as png and svg by file name; empty if there is nothing to draw.

    `stability` is `rank_stability.measure(spectra)`, the others are the suite's tables. The same
    records give the same bytes.
    """
    rows = by_row(stability, trials)
    rows = rows[show.are_baseline(rows.role, "full") | show.are_subject(rows.role)]
    if rows.empty:
        return {}
    files = {}
    with mpl.rc_context(STYLE):
        figure = _figure(over_blocks(rows), trials, spectra)
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
            files[f"{NAME}.{kind}"] = buffer.getvalue()
    return files


def _figure(rows: pd.DataFrame, trials: pd.DataFrame, spectra: pa.Table) -> Figure:
    every = list(rows.groupby(["comparison", "task", "model"], sort=False, dropna=False))
    places = every[:MOST_PANELS]
    figure = Figure(figsize=(WIDTH, PANEL_HEIGHT * len(places) + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    say_rest(figure, places, every)
    grid = figure.subplots(len(places), 3, squeeze=False)
    for axes, ((comparison, task, _), place) in zip(grid, places, strict=True):
        axes[0].set_title(show.place(task, comparison), loc="left")
        _measure(axes[0], place, "spearman", "rank correlation\nwith the end")
        _measure(axes[1], place, "overlap", "top quarter\nshared with the end")
        axes[1].axhline(1 / TOP, color=SOFT, linewidth=0.8, linestyle=":")
        axes[1].text(1, 1 / TOP, "by chance ", color=SOFT, ha="right", va="bottom", fontsize=7.5)
        axes[1].set_ylim(bottom=0)
        _singular_values(axes[2], spectra, trials, _full_trials(trials, comparison, task))
        handles, labels = axes[0].get_legend_handles_labels()
        legend = axes[1].legend(
            handles, labels, loc="lower left", bbox_to_anchor=(-0.1, 1.0), ncols=5, fontsize=7.5,
            frameon=False, columnspacing=1.2, handlelength=1.5,
        )  # fmt: skip
        legend.set_in_layout(False)  # it sits beside the title, above panels of full width
        for one in axes:
            one.set_xlim(0, 1)
            one.xaxis.set_major_formatter(PercentFormatter(1.0))
            one.set_xlabel("of training")
    return figure


def _measure(axes: Axes, place: pd.DataFrame, measure: str, label: str) -> None:
    """One measure over training: full size with its range over seeds, in-training rows as lines."""
    shown = _evenly(list(dict.fromkeys(place.label[show.are_subject(place.role)])))
    colours = dict(zip(shown, SHADES, strict=False))
    for name, row in place.groupby("label", sort=False):
        if show.are_baseline(row.role, "full").iloc[0]:
            _lines(axes, row, measure, str(name), FULL, band=True)
        elif name in colours:
            _lines(axes, row, measure, str(name), colours[name], band=False)
    axes.set_ylabel(label)
    axes.set_ylim(top=1.03)


def _evenly(labels: list[str]) -> list[str]:
    """At most `MOST_ROWS` labels, including the first and the last."""
    places = np.linspace(0, len(labels) - 1, min(len(labels), MOST_ROWS)).round().astype(int)
    return [labels[place] for place in places]


def _lines(
    axes: Axes, row: pd.DataFrame, measure: str, label: str, colour: str, band: bool
) -> None:
    """The mean over seeds, stretch by stretch; the end, which is 1 by definition, is left out."""
    name: str | None = label
    for _, stretch in row[row.step < row.end].groupby(["begin", "end"], sort=True):
        over = stretch.groupby("at")[measure].agg(["mean", "min", "max"])
        style: dict[str, Any] = {"linewidth": 1.6 if band else 1.1, "marker": ".", "markersize": 3}
        axes.plot(over.index, over["mean"], color=colour, label=name, **style)
        if band:
            axes.fill_between(over.index, over["min"], over["max"], color=colour, alpha=0.12, lw=0)
        name = None


def _full_trials(trials: pd.DataFrame, comparison: object, task: str) -> set[str]:
    """The full-size trials of one comparison."""
    keys = trials.get("comparison", pd.Series(None, trials.index, dtype=object))
    here = (keys == comparison) | (keys.isna() & pd.isna(comparison))
    return set(
        trials.trial_id[here & (trials.task == task) & show.are_baseline(trials.role, "full")]
    )


def _singular_values(axes: Axes, spectra: pa.Table, trials: pd.DataFrame, chosen: set[str]) -> None:
    """Some of the sorted HSVs, from the first to the last, over training."""
    steps = trials.drop_duplicates("trial_id").set_index("trial_id")["spec.training.steps"]
    ours = pc.is_in(spectra["trial_id"], pa.array(sorted(chosen), pa.string()))
    columns = ["trial_id", "step", "hankel_singular_values"]
    known = spectra.select(columns).filter(ours).to_pandas()
    axes.set_ylabel("sorted HSVs")
    if known.empty:
        axes.text(0.5, 0.5, "no full-size row", transform=axes.transAxes, ha="center")
        return
    at = known.step / known.trial_id.map(steps).astype(float)
    size = min(map(len, known.hankel_singular_values))
    places = sorted({1, 2, 4, *(max(1, round(size * part)) for part in (0.125, 0.25, 0.5, 1))})
    # Those of a stack are stored system by system.
    values = np.stack([np.sort(one)[::-1][:size] for one in known.hankel_singular_values])
    for number, place in enumerate(place for place in places if place <= size):
        curve = pd.Series(values[:, place - 1]).groupby(at.to_numpy()).median()
        shade = mpl.colormaps["viridis"](0.9 * number / len(places))
        axes.plot(curve.index, curve.clip(lower=np.finfo(float).tiny), color=shade, linewidth=1.2)
        axes.annotate(
            f"{place}", (curve.index[-1], max(curve.iloc[-1], 1e-300)), xytext=(3, 0),
            textcoords="offset points", va="center", fontsize=7, color=shade,
            annotation_clip=False,
        )  # fmt: skip
    axes.set_yscale("log")
    floor = values.max() * 1e-8  # smaller values are rounding
    if values.min() < floor:
        axes.set_ylim(bottom=floor)
