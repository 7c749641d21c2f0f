"""The legend of a figure of a comparison."""

from __future__ import annotations

from typing import Any

from matplotlib.lines import Line2D

from harness.arms import of_kind
from harness.report import presentation as show
from harness.report.looks import Looks

ENTRY = 1.8  # inches, the longest name of an arm
FULL_LINE = (0, (4, 3))
REFERENCE_WIDTH = 2.4  # points, of the curve of small from scratch


def legend_lines(looks: Looks, bare: bool, width: float) -> list[list[Line2D]]:
    """The lines of the legend: the arms, then what else tells rows apart.

    `bare` says that some rows have no interval; `width` is the figure's, in inches.
    """
    arms = [
        Line2D(
            [], [], color=look.colour, marker=look.marker, markersize=7, label=show.arm_name(arm),
            **_line(arm, looks),
        )
        for arm, look in looks.arms.items()
    ]  # fmt: skip
    rest = [
        Line2D(
            [], [], color=look.colour, marker=look.marker, markersize=7, label=name, linewidth=1.8,
            linestyle="none" if look.marker else look.line, **look.filled,
        )
        for name, look in looks.rest.items()
    ]  # fmt: skip
    if bare:
        rest.append(Line2D([], [], linestyle="none", label="no bar: no interval"))
    abreast = int(width / ENTRY)
    return [
        kind[start : start + abreast]
        for kind in (arms, rest)
        for start in range(0, len(kind), abreast)
    ]


def _line(arm: str, looks: Looks) -> dict[str, Any]:
    """The line of an arm's entry: full size has one, and small from scratch beside curves."""
    baseline = of_kind(arm).baseline
    if baseline == "full":
        return {"linestyle": FULL_LINE, "linewidth": 0.9}
    if baseline == "small" and looks.curves:
        return {"linestyle": looks.arms[arm].line, "linewidth": REFERENCE_WIDTH}
    return {"linestyle": "none"}
