"""The figures: test metric against state dimension, and against what training cost.

Each figure is drawn once and saved as png and svg; the same comparison gives the same bytes. An arm
keeps its colour and marker in every figure. The colours are those of Okabe and Ito, which
colour-blind readers can tell apart. Markers of several rows of one arm are filled differently.
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
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from matplotlib.transforms import Transform, offset_copy

from harness.arms import ARM_UNION, Style, of_kind
from harness.report import presentation as show
from harness.report.forest import every_row
from harness.report.style import name_points

DPI = 150
WIDTH, PANEL_HEIGHT, LEGEND_LINE = 9.2, 2.3, 0.24  # inches
LEGEND_ENTRY = 1.8  # inches, the longest name of an arm
ASIDE = 6.5  # points between rows of equal size, which are drawn side by side
WIDEST = 42.0  # points, the most that all rows of one size may take
EQUAL = 1.02  # sizes within this factor are equal
FULL_LINE = (0, (4, 3))
SOFT = "#666666"
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


FILLS = ("full", "open", "bottom", "top", "left", "right")  # one per variant of an arm
OTHER_STYLES = (Style("#56B4E9", "X"), Style("#999999", "h"), Style("#7F3C8D", "p"))


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
            "rows": every_row(comparison, _styles(comparison)),
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
    """One panel per comparison, one below the other, under one legend of arms and variants."""
    sections = show.sections(comparison)
    styles, fills = _styles(comparison), _fills(comparison)
    bare = bool(_bare(comparison).any())
    lines = _legend_lines(styles, {name: fill for name, fill in fills.items() if name}, bare)
    above = 0.14 + LEGEND_LINE * len(lines)
    height = PANEL_HEIGHT * len(sections) + above
    layout = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - above / height), hspace=0.06)
    figure = Figure(figsize=(WIDTH, height), layout=layout)
    FigureCanvasAgg(figure)
    for number, handles in enumerate(lines):
        figure.legend(
            handles=handles, loc="upper left", ncols=len(handles), frameon=False,
            bbox_to_anchor=(0, 1 - number * LEGEND_LINE / height), handletextpad=0.3,
            columnspacing=1.3, handlelength=1.6,
        )  # fmt: skip
    grid = figure.subplots(len(sections), squeeze=False).ravel()
    for axes, (name, rows) in zip(grid, sections, strict=True):
        axes.set_title(name, loc="left")
        _panel(axes, rows, axis, styles, fills)
    if not fills:
        figure.canvas.draw()  # the layout decides where points end up on the screen
        for axes, (_, rows) in zip(grid, sections, strict=True):
            _name_subjects(axes, _drawn(rows, axis, styles), styles)
    return figure


def _panel(
    axes: Axes, rows: pd.DataFrame, axis: Axis, styles: dict[str, Style], fills: dict[str, str]
) -> None:
    shown = show.shown_metric(str(rows.metric.iloc[0]))
    better = "higher" if rows.higher_is_better.iloc[0] else "lower"
    unit = f", {shown.unit}" if shown.unit else ""
    axes.set_ylabel(f"test {shown.name}{unit}\n({better} is better)")
    axes.set_xlabel(axis.label)
    drawn = _drawn(rows, axis, styles)
    if drawn.empty:
        axes.text(0.5, 0.5, "nothing to show", transform=axes.transAxes, ha="center")
        axes.set(xticks=[], yticks=[])
        return
    _scale(axes, drawn.x, axis)
    _full_line(axes, drawn[show.are_baseline(drawn.arm, "full")], shown.factor)
    for arm, style in styles.items():
        ours = drawn[drawn.arm == arm]
        for _, row in ours.iterrows():
            fill = fills.get(_variant(row), FILLS[0])
            _point(axes, row, style, fill, shown.factor)
        if axis.aside:
            _join(axes, ours, style)
    # Matplotlib does not count shifted points when it sets the limits.
    for end in ("y", "metric_low", "metric_high"):
        known = drawn[["x", end]].dropna().to_numpy()
        axes.update_datalim(known if end == "y" else known * [1, shown.factor])
    if shown.unit == "%":  # an interval may exceed 0 to 100 %, the frame need not
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, -4), min(high, 104))


def _drawn(rows: pd.DataFrame, axis: Axis, styles: dict[str, Style]) -> pd.DataFrame:
    """The rows that have a point, with its position in units of the axes and its shift."""
    found = rows[rows.metric_mean.notna() & (rows[axis.column] > 0)]
    x, factor = found[axis.column], show.shown_metric(str(rows.metric.iloc[0])).factor
    aside = _aside(found.arm, x, list(styles)) if axis.aside else 0.0
    return found.assign(x=x, y=found.metric_mean * factor, aside=aside)


def _point(axes: Axes, row: pd.Series, style: Style, fill: str, factor: float) -> None:
    """A row, with its interval if it has one."""
    low, high = row.y - row.metric_low * factor, row.metric_high * factor - row.y
    axes.errorbar(
        [row.x], [row.y], yerr=[[low], [high]] if math.isfinite(low) else None,
        fmt=style.marker, color=style.colour, markersize=7, elinewidth=1.4, capsize=2.5,
        zorder=3, transform=_beside(axes, row.aside), **_filled(fill, style.colour),
    )  # fmt: skip


def _filled(fill: str, colour: str) -> dict[str, Any]:
    """How a marker is filled: fully, not at all, or by half."""
    return {
        "fillstyle": "full" if fill in FILLS[:2] else fill,
        "markerfacecolor": "white" if fill == "open" else colour,
        "markerfacecoloralt": "white",
        "markeredgecolor": colour,
        "markeredgewidth": 1.2,
    }


def _beside(axes: Axes, aside: float) -> Transform:
    """Data coordinates shifted by `aside` points to the right on the screen."""
    return offset_copy(axes.transData, axes.get_figure(root=True), x=aside, units="points")


def _aside(arms: pd.Series, sizes: pd.Series, order: list[str]) -> pd.Series:
    """Each row's shift in points: rows of equal size are spread around it, in the order of arms."""
    aside = pd.Series(0.0, sizes.index)
    ranked = sizes.sort_values()
    group = (ranked / ranked.shift() > EQUAL).cumsum()
    for _, equal in ranked.groupby(group):
        ours = sorted(equal.index, key=lambda index: (order.index(arms[index]), index))
        step = min(ASIDE, WIDEST / len(ours))
        for number, index in enumerate(ours):
            aside[index] = step * (number - (len(ours) - 1) / 2)
    return aside


def _join(axes: Axes, rows: pd.DataFrame, style: Style) -> None:
    """A thin line through three or more rows of one arm that differ in size and share a shift."""
    rows = rows.sort_values("x")
    if len(rows) > 2 and rows.aside.nunique() == 1 and (rows.x.diff().iloc[1:] > 0).all():
        axes.plot(
            rows.x, rows.y, color=style.colour, linewidth=1, alpha=0.35, zorder=2,
            transform=_beside(axes, rows.aside.iloc[0]),
        )  # fmt: skip


def _bare(rows: pd.DataFrame) -> pd.Series:
    """True for a row that has a mean but no interval: it has one seed, or one diverged."""
    return rows.metric_mean.notna() & rows.metric_low.isna()


def _variant(row: pd.Series) -> str:
    """What the label says beyond the arm: `early` of `long: in_training early`."""
    label = str(row.label)
    if isinstance(row.comparison, str):
        label = label.removeprefix(f"{row.comparison}: ")
    return label.removeprefix(str(row.arm)).strip().removeprefix("as ").strip()


def _fills(comparison: pd.DataFrame) -> dict[str, str]:
    """How to fill the markers of each variant, for arms that have several rows in a panel.

    The plain arm comes first. Empty if there are more variants than fillings: the points are then
    labelled by name.
    """
    repeated = [rows[rows.arm.duplicated(keep=False)] for _, rows in show.sections(comparison)]
    found = dict.fromkeys(_variant(row) for rows in repeated for _, row in rows.iterrows())
    variants = sorted(found, key=lambda name: name != "")
    return dict(zip(variants, FILLS, strict=False)) if len(variants) <= len(FILLS) else {}


def _name_subjects(axes: Axes, rows: pd.DataFrame, styles: dict[str, Style]) -> None:
    """Label the rows that the report is about with their variant, clear of all points."""
    named = rows[show.are_subject(rows.arm)]
    if len(named) < 2 or show.is_crowded(rows):
        return
    points = {index: _on_screen(axes, row) for index, row in rows.iterrows()}
    names = pd.DataFrame(
        [[*points[i], _variant(row), styles[row.arm].colour] for i, row in named.iterrows()],
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


def _scale(axes: Axes, positions: pd.Series, axis: Axis) -> None:
    """A logarithmic axis with room at both ends, so that no point sits on the frame."""
    low, high = float(positions.min()), float(positions.max())
    axes.set_xscale("log", base=2)
    axes.set_xlim(low / 1.6, high * 1.25)
    if high / low < 4:  # powers of two would give one tick or none
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda number, _: axis.tick.format(number)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(y=0.12)


def _legend_lines(styles: dict[str, Style], variants: dict[str, str], bare: bool) -> list[list]:
    """The lines of the legend: the arms, then the fillings of their variants."""
    arms = [
        Line2D(
            [], [], color=style.colour, marker=style.marker, markersize=7,
            label=show.arm_name(arm), linewidth=0.9,
            linestyle=FULL_LINE if of_kind(arm).baseline == "full" else "none",
        )
        for arm, style in styles.items()
    ]  # fmt: skip
    rest = [
        Line2D([], [], color=SOFT, marker="o", markersize=7, linestyle="none", label=name,
               **_filled(fill, SOFT))
        for name, fill in variants.items()
    ]  # fmt: skip
    if bare:
        rest.append(Line2D([], [], linestyle="none", label="no bar: no interval"))
    abreast = int(WIDTH / LEGEND_ENTRY)
    return [
        kind[start : start + abreast]
        for kind in (arms, rest)
        for start in range(0, len(kind), abreast)
    ]


def _styles(comparison: pd.DataFrame) -> dict[str, Style]:
    """The style of each arm that occurs; arms that define none take the spare styles, by name."""
    arms = set(map(str, comparison.arm))
    own = {arm: style for arm in ARM_UNION.specs if (style := of_kind(arm).style) is not None}
    unknown = sorted(arms - set(own))
    others = {arm: OTHER_STYLES[i % len(OTHER_STYLES)] for i, arm in enumerate(unknown)}
    return {arm: style for arm, style in {**own, **others}.items() if arm in arms}
