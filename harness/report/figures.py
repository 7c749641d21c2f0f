"""The figures: test metric against state dimension, and against what training cost.

Each figure is drawn once and saved as png and svg; the same comparison gives the same bytes.
`looks.py` says how rows are told apart.
"""

import io
import math
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from matplotlib.transforms import Transform, offset_copy

from harness.arms import of_kind
from harness.report import presentation as show
from harness.report.forest import every_row
from harness.report.legend import FULL_LINE, REFERENCE_WIDTH, legend_lines
from harness.report.looks import Look, Looks, by_arm, looks, variant_name
from harness.report.panels import MOST_PANELS, say_rest
from harness.report.style import name_points

DPI = 150
WIDTH, PANEL_HEIGHT, LEGEND_LINE = 9.2, 2.3, 0.24  # inches
MOST_BELOW = 6  # panels without curves in one column
CURVES_HEIGHT = 3.1  # inches, of a panel with curves
LANE, LANES = 2.2, 10  # points between curves at one size, and how many of these all may take
ASIDE = 6.5  # points between rows of equal size, which are drawn side by side
WIDEST = 42.0  # points, the most that all rows of one size may take
FEW = 8  # sizes that get a tick each
EQUAL = 1.02  # sizes within this factor are equal
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "compressm",  # ids in the svg depend on the drawing alone
    "font.family": "DejaVu Sans",  # comes with matplotlib, so it is on every machine
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.titleweight": "bold",
    "axes.titlesize": 10.0,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
}


def draw(comparison: pd.DataFrame) -> dict[str, bytes]:
    """The figures as files: name (`state_dim.png`, ...) to content.

    A row without a finished seed has no point; a task without any finished seed gets an empty panel
    that says so. A comparison with many rows also gets the figure `rows`, with one line per row.
    """
    files: dict[str, bytes] = {}
    with mpl.rc_context(STYLE):
        figures = {
            "state_dim": metric_against_state_dim(comparison),
            "cost": metric_against_cost(comparison),
            "rows": every_row(comparison, by_arm(comparison)),
        }
        for name, figure in figures.items():
            if figure is None:
                continue
            for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
                buffer = io.BytesIO()
                figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
                files[f"{name}.{kind}"] = buffer.getvalue()
    return files


class Axis(NamedTuple):
    """The horizontal axis: its column, its label, and the format of its ticks."""

    column: str
    label: str
    tick: str
    aside: bool  # set rows of equal size side by side, and join the rows of an arm
    lane: float = LANE  # points between curves


STATE_DIM = Axis("state_dim_mean", "states per block", "{:g}", True)
COST = Axis("relative_flops", "total training FLOPs, relative to full size", "{:g}×", False)


def metric_against_state_dim(comparison: pd.DataFrame) -> Figure:
    """Test metric, with its interval, against the mean state dimension of a block.

    Rows of equal size are drawn side by side to keep their intervals apart: each is shifted a few
    points from its true position, on the screen only.
    """
    return _panels(comparison, STATE_DIM)


def metric_against_cost(comparison: pd.DataFrame) -> Figure:
    """Test metric, with its interval, against total training FLOPs relative to full."""
    return _panels(comparison, COST)


def _panels(comparison: pd.DataFrame, axis: Axis) -> Figure:
    """One panel per comparison under one legend of arms and variants.

    Panels are one below the other, and in two columns where they are many; if they show curves,
    higher, and in two columns from three on.
    """
    every, drawn_as = show.sections(comparison), looks(comparison)
    sections = every[:MOST_PANELS]
    lines = legend_lines(drawn_as, bool(_bare(comparison).any()), WIDTH)
    above = 0.14 + LEGEND_LINE * len(lines)
    columns = 2 if len(sections) > (2 if drawn_as.curves else MOST_BELOW) else 1
    axis = axis._replace(lane=axis.lane * 2 / columns)
    rows = math.ceil(len(sections) / columns)
    height = (CURVES_HEIGHT if drawn_as.curves else PANEL_HEIGHT) * rows + above
    layout = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - above / height), hspace=0.06, wspace=0.03)
    figure = Figure(figsize=(WIDTH, height), layout=layout)
    FigureCanvasAgg(figure)
    say_rest(figure, sections, every)
    for number, handles in enumerate(lines):
        figure.legend(
            handles=handles, loc="upper left", ncols=len(handles), frameon=False,
            bbox_to_anchor=(0, 1 - number * LEGEND_LINE / height), handletextpad=0.3,
            columnspacing=1.3, handlelength=2.6 if drawn_as.curves else 1.6,
        )  # fmt: skip
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in grid[len(sections) :]:
        spare.remove()
    for axes, (name, ours) in zip(grid, sections, strict=False):
        axes.set_title(name, loc="left")
        _panel(axes, ours, axis, drawn_as)
    if not drawn_as.are_told:
        figure.canvas.draw()  # the layout decides where points end up on the screen
        for axes, (_, ours) in zip(grid, sections, strict=False):
            _name_subjects(axes, _drawn(ours, axis, drawn_as), drawn_as)
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, axis: Axis, drawn_as: Looks) -> None:
    shown = show.shown_metric(str(rows.metric.iloc[0]))
    better = "higher" if rows.higher_is_better.iloc[0] else "lower"
    unit = f", {shown.unit}" if shown.unit else ""
    axes.set_ylabel(f"test {shown.name}{unit}\n({better} is better)")
    axes.set_xlabel(axis.label)
    drawn = _drawn(rows, axis, drawn_as)
    if drawn.empty:
        axes.text(0.5, 0.5, "nothing to show", transform=axes.transAxes, ha="center")
        axes.set(xticks=[], yticks=[])
        return
    _scale(axes, drawn.x, axis, drawn_as.curves)
    _full_line(axes, drawn[show.are_baseline(drawn.arm, "full")], shown.factor)
    for arm in drawn_as.arms:
        ours = drawn[drawn.arm == arm]
        for index, row in ours.iterrows():
            _point(axes, row, drawn_as.of[index], shown.factor)
        if axis.aside:
            for _, curve in ours.groupby(ours.index.map(drawn_as.curve.get), sort=False):
                _join(axes, curve, drawn_as.of[curve.index[0]], drawn_as.curves)
    # Matplotlib does not count shifted points when it sets the limits.
    for end in ("y", "metric_low", "metric_high"):
        known = drawn[["x", end]].dropna().to_numpy()
        axes.update_datalim(known if end == "y" else known * [1, shown.factor])
    if shown.unit == "%":  # an interval may exceed 0 to 100 %, the frame need not
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, -4), min(high, 104))


def _drawn(rows: pd.DataFrame, axis: Axis, drawn_as: Looks) -> pd.DataFrame:
    """The rows that have a point, with its position in units of the axes and its shift."""
    found = rows[rows.metric_mean.notna() & (rows[axis.column] > 0)]
    x, factor = found[axis.column], show.shown_metric(str(rows.metric.iloc[0])).factor
    aside: Any = 0.0
    if axis.aside:
        aside = (
            _lanes(found, drawn_as, axis.lane) if drawn_as.curves else _aside(found, x, drawn_as)
        )
    return found.assign(x=x, y=found.metric_mean * factor, aside=aside)


def _point(axes: Axes, row: pd.Series, look: Look, factor: float) -> None:
    """A row, with its interval if it has one."""
    low, high = row.y - row.metric_low * factor, row.metric_high * factor - row.y
    axes.errorbar(
        [row.x], [row.y], yerr=[[low], [high]] if math.isfinite(low) else None,
        fmt=look.marker, color=look.colour, markersize=7, elinewidth=1.4, capsize=2.5,
        zorder=3, transform=_beside(axes, row.aside), **look.filled,
    )  # fmt: skip


def _beside(axes: Axes, aside: float) -> Transform:
    """Data coordinates shifted by `aside` points to the right on the screen."""
    return offset_copy(axes.transData, axes.get_figure(root=True), x=aside, units="points")


def _aside(rows: pd.DataFrame, sizes: pd.Series, drawn_as: Looks) -> pd.Series:
    """Each row's shift in points: rows of equal size are spread around it, in the order of arms."""
    order = list(drawn_as.arms)
    aside = pd.Series(0.0, sizes.index)
    ranked = sizes.sort_values()
    group = (ranked / ranked.shift() > EQUAL).cumsum()
    for _, equal in ranked.groupby(group):
        ours = sorted(equal.index, key=lambda index: (order.index(rows.arm[index]), index))
        step = min(ASIDE, WIDEST / len(ours))
        for number, index in enumerate(ours):
            aside[index] = step * (number - (len(ours) - 1) / 2)
    return aside


def _lanes(rows: pd.DataFrame, drawn_as: Looks, lane: float) -> pd.Series:
    """Each row's shift in points: that of its curve, which is the same at every size."""
    curves = [drawn_as.curve[index] for index in rows.index]
    reduced = dict.fromkeys(c for c in curves if of_kind(c[0]).baseline != "full")
    step = lane * min(1, LANES / max(1, len(reduced)))
    shift = {c: step * (k - (len(reduced) - 1) / 2) for k, c in enumerate(reduced)}
    return pd.Series([shift.get(curve, 0.0) for curve in curves], rows.index)


def _join(axes: Axes, rows: pd.DataFrame, look: Look, is_curve: bool) -> None:
    """A line through the rows of a curve, which differ in size and share a shift.

    Where curves are not told apart, it is a faint one through three or more rows of an arm.
    """
    rows = rows.sort_values("x")
    if len(rows) < (2 if is_curve else 3) or rows.aside.nunique() != 1:
        return
    if not (rows.x.diff().iloc[1:] > 0).all():
        return
    width, alpha = (1.4, 0.9) if is_curve else (1.0, 0.35)
    if is_curve and of_kind(str(rows.arm.iloc[0])).baseline == "small":
        width = REFERENCE_WIDTH
    axes.plot(
        rows.x, rows.y, color=look.colour, linewidth=width, alpha=alpha, linestyle=look.line,
        zorder=2, transform=_beside(axes, rows.aside.iloc[0]),
    )  # fmt: skip


def _bare(rows: pd.DataFrame) -> pd.Series:
    """True for a row that has a mean but no interval: it has one seed, or one diverged."""
    return rows.metric_mean.notna() & rows.metric_low.isna()


def _name_subjects(axes: Axes, rows: pd.DataFrame, drawn_as: Looks) -> None:
    """Label the rows that the report is about with their variant, clear of all points."""
    named = rows[show.are_subject(rows.arm)]
    if len(named) < 2 or show.is_crowded(rows):
        return
    points = {index: _on_screen(axes, row) for index, row in rows.iterrows()}
    names = pd.DataFrame(
        [[*points[i], variant_name(row), drawn_as.of[i].colour] for i, row in named.iterrows()],
        columns=["x", "y", "name", "colour"],
    )
    name_points(axes, names, np.array(list(points.values())))
    for text in axes.texts:
        text.set_in_layout(False)  # it was placed for the layout as it is


def _on_screen(axes: Axes, row: pd.Series) -> tuple[float, float]:
    """The data coordinates at which a shifted point appears."""
    seen = _beside(axes, row.aside).transform((row.x, row.y))
    return tuple(axes.transData.inverted().transform(seen))


def _full_line(axes: Axes, rows: pd.DataFrame, factor: float) -> None:
    """Full size as a line and a band across the panel."""
    for row in rows.itertuples():
        axes.axhline(row.metric_mean * factor, color="#000000", linewidth=0.9, linestyle=FULL_LINE)
        if math.isfinite(row.metric_low):
            axes.axhspan(
                row.metric_low * factor, row.metric_high * factor, color="#000000", alpha=0.07, lw=0
            )


def _scale(axes: Axes, positions: pd.Series, axis: Axis, curves: bool) -> None:
    """A logarithmic axis with room at both ends, so that no point sits on the frame.

    Under curves at a few whole sizes the ticks are these sizes.
    """
    low, high = float(positions.min()), float(positions.max())
    axes.set_xscale("log", base=2)
    axes.set_xlim(low / 1.6, high * 1.25)
    sizes = sorted(set(positions))
    if curves and axis.aside and len(sizes) <= FEW and all(size == round(size) for size in sizes):
        axes.set_xticks(sizes)
    elif high / low < 4:  # powers of two would give one tick or none
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda number, _: axis.tick.format(number)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(y=0.12)
