"""Shared by figures: markers, colours of competing settings, and placement of labels."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from harness.report import presentation as show

INK = "#000000"
CANDIDATE = "#6f93b8"
STOPPED = "#9a9fa8"
MARGIN = "#D55E00"
PAPER = "#CC79A7"
FINALISTS = ("#0072B2", "#E69F00", "#009E73", "#7F3C8D", "#56B4E9")
HALO = [withStroke(linewidth=2.5, foreground="white")]
# Offsets of a label from its point, in points; the first free one is used.
PLACES = ((7, 5), (7, -12), (-7, 5), (-7, -12), (0, 10), (0, -17), (16, 14), (-16, 14), (16, -22))


def percent(fraction: float) -> str:
    """A fraction of training as `10 %`."""
    return f"{round(100 * fraction, 2):g} %"


def described(setting: Mapping[str, Any]) -> str:
    """A setting in a few words: `4 × tau 0.05, 20 to 38 %`; empty if it is unknown."""
    if not {"start", "end", "count", "tau"} <= set(setting):
        return ""
    window = f"{round(100 * setting['start'], 2):g} to {percent(setting['end'])}"
    text = f"{int(setting['count'])} × tau {setting['tau']:g}, {window}"
    options = setting.get("options") or {}
    options = json.loads(options) if isinstance(options, str) else options
    return ", ".join([text, *(f"{name} {value}" for name, value in options.items())])


def finalist_colours(labels: Sequence[str]) -> dict[str, str]:
    """A colour for each competing label; the paper's setting has a fixed one."""
    others = [label for label in labels if label != "paper"]
    colours = {label: FINALISTS[i % len(FINALISTS)] for i, label in enumerate(others)}
    return {label: colours.get(label, PAPER) for label in labels}


def shown(axes: Axes, metric: str, higher_is_better: bool, what: str) -> float:
    """Label the vertical axis with the metric; return the factor of its unit."""
    found = show.shown_metric(metric)
    unit = f", {found.unit}" if found.unit else ""
    better = "higher" if higher_is_better else "lower"
    axes.set_ylabel(f"{what} {found.name}{unit}\n({better} is better)")
    return found.factor


def nothing(axes: Axes, why: str = "nothing to show") -> None:
    """An empty panel that says so."""
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", va="center", wrap=True)
    axes.set(xticks=[], yticks=[])
    axes.grid(False)


def name_points(axes: Axes, names: pd.DataFrame, others: np.ndarray) -> None:
    """Label each point (`x`, `y`, `name`, `colour`), clear of `others` (n, 2).

    Call it once limits and scales are final: free space is measured in pixels.
    """
    axes.figure.canvas.draw()
    taken = [axes.transData.transform(point) for point in [*others, *names[["x", "y"]].to_numpy()]]
    boxes: list[Any] = []
    frame = axes.get_window_extent()
    for row in names.itertuples():
        best, fewest = None, np.inf
        for place in PLACES:
            text = _write(axes, row, place)
            box = text.get_window_extent().padded(1)
            hits = sum(box.contains(*point) for point in taken)
            hits += 3 * sum(box.overlaps(other) for other in boxes)
            hits += 5 * (not (frame.contains(*box.min) and frame.contains(*box.max)))
            text.remove()
            if hits < fewest:
                best, fewest = place, hits
            if hits == 0:
                break
        boxes.append(_write(axes, row, best or PLACES[0]).get_window_extent().padded(1))


def _write(axes: Axes, row: Any, place: tuple[int, int]) -> Any:
    return axes.annotate(
        row.name, (row.x, row.y), xytext=place, textcoords="offset points", fontsize=8,
        ha="left" if place[0] > 0 else "right" if place[0] < 0 else "center",
        color=row.colour, zorder=6, path_effects=HALO,
    )  # fmt: skip
