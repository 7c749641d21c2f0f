"""The two figures: test metric against state dimension, and against what training cost.

Each is drawn once and saved as png and svg, byte for byte the same for the same comparison. An arm
keeps its colour and marker in every figure; colours are those of Okabe and Ito, which stay apart
for colour-blind readers.
"""

import io
import math
from typing import Any, NamedTuple

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from harness.report import presentation as show

DPI = 150
ASIDE = 1.05  # factor between neighbouring arms of equal size
LEGEND_ENTRY = 1.8  # inches that the longest name of an arm takes
FULL_LINE = (0, (4, 3))
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


class Look(NamedTuple):
    """Colour and marker of one arm."""

    colour: str
    marker: str


LOOKS = {
    "full": Look("#000000", "s"),
    "in_training": Look("#0072B2", "o"),
    "post_hoc": Look("#E69F00", "^"),
    "small": Look("#009E73", "D"),
    "distill": Look("#CC79A7", "v"),
    "hankel_regularized": Look("#D55E00", "P"),
}
OTHER_LOOKS = (Look("#56B4E9", "X"), Look("#999999", "h"), Look("#7F3C8D", "p"))


def draw(comparison: pd.DataFrame) -> dict[str, bytes]:
    """The figures as files: name (`state_dim.png`, ...) to content.

    A row without a finished seed has no point; a task without any keeps an empty panel that says
    so.
    """
    files: dict[str, bytes] = {}
    with mpl.rc_context(STYLE):
        for name, figure in (
            ("state_dim", metric_against_state_dim(comparison)),
            ("cost", metric_against_cost(comparison)),
        ):
            FigureCanvasAgg(figure)
            for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
                buffer = io.BytesIO()
                figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
                files[f"{name}.{kind}"] = buffer.getvalue()
    return files


class Axis(NamedTuple):
    """What lies on the horizontal axis: a column, its label, how a tick is written."""

    column: str
    label: str
    tick: str
    join: bool  # join an arm's points, and set arms of equal size side by side


STATE_DIM = Axis("state_dim_mean", "complex states a block", "{:g}", True)
COST = Axis(
    "relative_flops", "training FLOPs of the whole way, relative to full size", "{:g}×", False
)


def metric_against_state_dim(comparison: pd.DataFrame) -> Figure:
    """Test metric, with its interval, against the mean state dimension of a block.

    Arms of equal size stand side by side, so that their intervals can be told apart.
    """
    return _panels(comparison, STATE_DIM)


def metric_against_cost(comparison: pd.DataFrame) -> Figure:
    """Test metric, with its interval, against the FLOPs of the whole way relative to full."""
    return _panels(comparison, COST)


def _panels(comparison: pd.DataFrame, axis: Axis) -> Figure:
    """One panel per task, model and protocol, two side by side, under one legend of the arms."""
    groups = list(comparison.groupby(["task", "model", "protocol"], sort=False))
    looks = _looks(comparison)
    columns = min(2, len(groups))
    lines = math.ceil(len(groups) / columns)
    width = max(4.4 * columns + 0.4, 6.8)
    bare = bool(_bare(comparison).any())
    abreast = int(width / LEGEND_ENTRY)
    above = 0.14 + 0.22 * math.ceil((len(looks) + bare) / abreast)
    height = 2.75 * lines + 0.14 + above
    layout = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - above / height), hspace=0.06, wspace=0.05)
    figure = Figure(figsize=(width, height), layout=layout)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, (_, rows) in zip(grid, groups, strict=False):
        axes.set_title(_title(rows.iloc[0], comparison), loc="left")
        _panel(axes, rows, axis, looks)
    for axes in grid[len(groups) :]:
        axes.set_axis_off()
    _legend(figure, looks, bare, abreast)
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, axis: Axis, looks: dict[str, Look]) -> None:
    shown = show.shown_metric(str(rows.metric.iloc[0]))
    better = "higher" if rows.higher_is_better.iloc[0] else "lower"
    unit = f", {shown.unit}" if shown.unit else ""
    axes.set_ylabel(f"test {shown.name}{unit}\n({better} is better)")
    axes.set_xlabel(axis.label)
    drawn = rows[rows.metric_mean.notna() & (rows[axis.column] > 0)]
    if drawn.empty:
        axes.text(0.5, 0.5, "nothing to show", transform=axes.transAxes, ha="center")
        axes.set(xticks=[], yticks=[])
        return
    _scale(axes, drawn[axis.column], axis)
    _full_line(axes, drawn[drawn.arm == "full"], shown.factor)
    sides = [arm for arm in looks if arm != "full"]
    for arm, group in drawn.groupby("arm", sort=False):
        aside = sides.index(arm) - (len(sides) - 1) / 2 if axis.join and arm in sides else 0.0
        where = group[axis.column] * ASIDE**aside
        _arm(axes, group.assign(x=where).sort_values("x"), looks[str(arm)], shown.factor, axis.join)
        if arm == "in_training" and len(group) > 1:
            _knobs(axes, group.assign(x=where), looks[str(arm)], shown.factor)
    if shown.unit == "%":  # an interval may reach beyond what can be, the frame need not
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, -4), min(high, 104))


def _arm(axes: Axes, rows: pd.DataFrame, look: Look, factor: float, join: bool) -> None:
    """The points of one arm, each with its interval; hollow where it has none."""
    if join:
        means = rows.metric_mean * factor
        axes.plot(rows.x, means, color=look.colour, linewidth=1, alpha=0.35, zorder=2)
    for bare, group in rows.groupby(_bare(rows)):
        mean, low, high = (group[f"metric_{name}"] * factor for name in ("mean", "low", "high"))
        axes.errorbar(
            group.x, mean, yerr=None if bare else [mean - low, high - mean], fmt=look.marker,
            color=look.colour, markersize=6, markeredgewidth=1.2 if bare else 0.7,
            markerfacecolor="white" if bare else look.colour,
            markeredgecolor=look.colour if bare else "white",
            elinewidth=1.4, capsize=3, capthick=1.2, zorder=3,
        )  # fmt: skip


def _bare(rows: pd.DataFrame) -> pd.Series:
    """True for a row that has a mean and no interval: one seed, or a diverged one."""
    return rows.metric_mean.notna() & rows.metric_low.isna()


def _full_line(axes: Axes, rows: pd.DataFrame, factor: float) -> None:
    """Full size as a line and a band across the panel: what there is to lose."""
    for row in rows.itertuples():
        axes.axhline(row.metric_mean * factor, color="#000000", linewidth=0.9, linestyle=FULL_LINE)
        if math.isfinite(row.metric_low):
            axes.axhspan(
                row.metric_low * factor, row.metric_high * factor, color="#000000", alpha=0.07, lw=0
            )


def _knobs(axes: Axes, rows: pd.DataFrame, look: Look, factor: float) -> None:
    """The setting of each in-training row beside its point."""
    for row in rows.itertuples():
        axes.annotate(
            str(row.label).removeprefix("in_training").strip(),
            (row.x, row.metric_mean * factor), xytext=(-7, 4), textcoords="offset points",
            ha="right", fontsize=7.5, color=look.colour, zorder=4,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )  # fmt: skip


def _scale(axes: Axes, positions: pd.Series, axis: Axis) -> None:
    """Logarithmic, with room at both ends so that no point sits on the frame."""
    low, high = float(positions.min()), float(positions.max())
    axes.set_xscale("log", base=2)
    axes.set_xlim(low / 1.6, high * 1.4)
    if high / low < 4:  # powers of two alone would leave one tick or none
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda number, _: axis.tick.format(number)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(y=0.12)


def _legend(figure: Figure, looks: dict[str, Look], bare: bool, abreast: int) -> None:
    style: dict[str, Any] = {"markersize": 7, "markeredgecolor": "white"}
    handles = [
        Line2D(
            [], [], color=look.colour, marker=look.marker, label=show.arm_name(arm),
            linestyle=FULL_LINE if arm == "full" else "none", linewidth=0.9, **style,
        )
        for arm, look in looks.items()
    ]  # fmt: skip
    if bare:
        handles.append(
            Line2D([], [], color="#666666", marker="o", markerfacecolor="white", markersize=6,
                   linestyle="none", label="hollow: no interval")
        )  # fmt: skip
    figure.legend(
        handles=handles, loc="upper left", ncols=min(abreast, len(handles)), frameon=False,
        handletextpad=0.3, columnspacing=1.3, handlelength=1.6,
    )  # fmt: skip


def _looks(comparison: pd.DataFrame) -> dict[str, Look]:
    """The look of each arm that occurs; arms without a fixed one take the rest in sorted order."""
    arms = list(dict.fromkeys(comparison.arm))
    unknown = sorted(set(arms) - set(LOOKS))
    others = {arm: OTHER_LOOKS[i % len(OTHER_LOOKS)] for i, arm in enumerate(unknown)}
    return {arm: look for arm, look in {**LOOKS, **others}.items() if arm in arms}


def _title(row: pd.Series, comparison: pd.DataFrame) -> str:
    parts = [row.task]
    if comparison.model.nunique() > 1:
        parts.append(row.model)
    if comparison.protocol.nunique() > 1:
        parts.append(row.protocol)
    return ", ".join(parts)
