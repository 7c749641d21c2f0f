"""The legend of a figure of a comparison."""

from __future__ import annotations

from typing import Any

from matplotlib.lines import Line2D

from harness.arms import of_kind
from harness.report import presentation as show
from harness.report.looks import Looks

ENTRY = 1.8  # inches, the longest name of an arm
HANDLE, LETTER = 0.5, 0.08  # inches, what stands before a name, and a letter of it
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
    return [line for kind in (arms, rest) for line in _wrapped(kind, width)]


def _wrapped(entries: list[Line2D], width: float) -> list[list[Line2D]]:
    """Lines of so many entries as are equally wide, or as fit if some have long names."""
    lines: list[list[Line2D]] = []
    left = 0.0
    for entry in entries:
        takes = max(ENTRY, HANDLE + LETTER * len(str(entry.get_label())))
        if not lines or takes > left:
            lines.append([])
            left = width
        lines[-1].append(entry)
        left -= takes
    return lines


def _line(arm: str, looks: Looks) -> dict[str, Any]:
    """The line of an arm's entry: full size has one, and small from scratch beside curves."""
    baseline = of_kind(arm).baseline
    if baseline == "full":
        return {"linestyle": FULL_LINE, "linewidth": 0.9}
    if baseline == "small" and looks.curves:
        return {"linestyle": looks.arms[arm].line, "linewidth": REFERENCE_WIDTH}
    return {"linestyle": "none"}
