"""How figures tell rows apart: colour, marker, filling and line of each row.

An arm keeps its colour and marker in every figure. A few rows of one arm are told apart by how
their markers are filled. Where an arm has several curves of metric against size, or more variants
than fillings, fields of its spec (`gramians`, say) give the colour and the dashes, the arm the
marker, and what else differs the filling (`telling.py`). The colours are those of Okabe and Ito,
which colour-blind readers can tell apart; the dashes serve in print.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import to_hex

from harness.arms import ARM_UNION, Style, of_kind
from harness.report import presentation as show
from harness.report.telling import (
    Said,
    has_curves,
    has_variants,
    key_of,
    named,
    place_of,
    rest_of,
    shades,
    shared_words,
    telling_fields,
)

SOFT = "#666666"
SOLID = "-"
FILLS = ("full", "open", "bottom", "top", "left", "right")  # one per variant of an arm
OTHER_STYLES = (Style("#56B4E9", "X"), Style("#999999", "h"), Style("#7F3C8D", "p"))
# Colour and dashes of the values of a field that tells curves apart; the default's comes first.
VALUES: tuple[tuple[str, Any], ...] = (
    ("#8A8A8A", (0, (1, 1.2))),
    ("#56B4E9", (0, (6, 1.5, 1, 1.5))),
    ("#D55E00", (0, (4, 1.5))),
    ("#0072B2", SOLID),
    ("#E69F00", (0, (3, 1, 1, 1, 1, 1))),
    ("#7F3C8D", (0, (8, 2))),
)
LIGHTEST = 0.88  # of the shades; lighter ones vanish on white
PLAIN: tuple[str | None, Any] = (None, SOLID)  # the arm's own colour
PATCH = "o"  # what shows a colour in the legend where no line does


class Look(NamedTuple):
    """How a row is drawn; `line` joins the rows of its curve (a matplotlib line style)."""

    colour: str
    marker: str
    fill: str = FILLS[0]
    line: Any = SOLID

    @property
    def filled(self) -> dict[str, Any]:
        """How matplotlib fills the marker: fully, not at all, or by half."""
        return {
            "fillstyle": "full" if self.fill in FILLS[:2] else self.fill,
            "markerfacecolor": "white" if self.fill == "open" else self.colour,
            "markerfacecoloralt": "white",
            "markeredgecolor": self.colour,
            "markeredgewidth": 1.2,
        }


@dataclass(frozen=True)
class Looks:
    """The look of each row of a comparison (by its index), and the entries of the legend: the arms,
    then what else tells rows apart.

    `curves` is True if curves of one arm are told apart; each row's curve is in `curve`. `are_told`
    is False if there are more labels than fillings, so that points need names.
    """

    of: dict[Any, Look]
    curve: dict[Any, tuple[str, str]]
    arms: dict[str, Look]
    rest: dict[str, Look]
    curves: bool
    are_told: bool


def looks(comparison: pd.DataFrame) -> Looks:
    """How the rows of a comparison are drawn."""
    styles, curves = styles_of(comparison), has_curves(comparison)
    found = _by_filling(comparison, styles)
    if not curves and (found.are_told or not has_variants(comparison)):
        return found
    chosen = telling_fields(comparison, len(VALUES), len(FILLS))
    drawn = _one_by_one(comparison) if chosen is None else _by_fields(chosen, comparison, styles)
    of, arms = {}, {arm: Look(*style) for arm, style in styles.items()}
    for index, arm in comparison.arm.items():
        colour, line, fill = drawn.of[index]
        of[index] = Look(colour or styles[arm].colour, styles[arm].marker, fill, line)
        if colour is not None:
            arms[arm] = Look(SOFT, styles[arm].marker)
    curve = {index: _curve(row) for index, row in comparison.iterrows()}
    if not curves:
        curve = {index: (str(arm), "") for index, arm in comparison.arm.items()}
    rest = {
        name: look if curves or look.marker else look._replace(marker=PATCH)
        for name, look in drawn.legend.items()
    }
    return Looks(of, curve, arms, rest, curves, are_told=curves)


def by_arm(comparison: pd.DataFrame) -> dict[Any, Look]:
    """The look of each row where a figure names it: its arm's."""
    styles = styles_of(comparison)
    return {index: Look(*styles[str(arm)]) for index, arm in comparison.arm.items()}


def styles_of(comparison: pd.DataFrame) -> dict[str, Style]:
    """The style of each arm that occurs; arms that define none take the spare styles, by name."""
    arms = set(map(str, comparison.arm))
    own = {arm: style for arm in ARM_UNION.specs if (style := of_kind(arm).style) is not None}
    unknown = sorted(arms - set(own))
    others = {arm: OTHER_STYLES[i % len(OTHER_STYLES)] for i, arm in enumerate(unknown)}
    return {arm: style for arm, style in {**own, **others}.items() if arm in arms}


def variant_name(row: pd.Series) -> str:
    """What the label says beyond the arm: `early` of `long: in_training early`."""
    label = str(row.label)
    if isinstance(row.comparison, str):
        label = label.removeprefix(f"{row.comparison}: ")
    return label.removeprefix(str(row.arm)).strip().removeprefix("as ").strip()


def _curve(row: pd.Series) -> tuple[str, str]:
    return str(row.arm), row.variant if isinstance(row.variant, str) else ""


def _by_filling(comparison: pd.DataFrame, styles: dict[str, Style]) -> Looks:
    """Colour and marker by arm, filling by the variant that the label names."""
    fills = _fills(comparison)
    return Looks(
        of={
            index: Look(*styles[row.arm], fill=fills.get(variant_name(row), FILLS[0]))
            for index, row in comparison.iterrows()
        },
        curve={index: (str(arm), "") for index, arm in comparison.arm.items()},
        arms={arm: Look(*style) for arm, style in styles.items()},
        rest={name: Look(SOFT, "o", fill) for name, fill in fills.items() if name},
        curves=False,
        are_told=bool(fills),
    )


def _fills(comparison: pd.DataFrame) -> dict[str, str]:
    """How to fill the markers of each variant, for arms that have several rows in a panel.

    The plain arm comes first. Empty if there are more variants than fillings: the points are then
    labelled by name.
    """
    repeated = [rows[rows.arm.duplicated(keep=False)] for _, rows in show.sections(comparison)]
    found = dict.fromkeys(variant_name(row) for rows in repeated for _, row in rows.iterrows())
    variants = sorted(found, key=lambda name: name != "")
    return dict(zip(variants, FILLS, strict=False)) if len(variants) <= len(FILLS) else {}


class _Drawn(NamedTuple):
    """Colour (None: the arm's), line and filling of each row, and what the legend says of them."""

    of: dict[Any, tuple[str | None, Any, str]]
    legend: dict[str, Look]


def _by_fields(
    chosen: frozenset[str], comparison: pd.DataFrame, styles: dict[str, Style]
) -> _Drawn:
    """Colour and dashes by the chosen fields, filling by all else."""
    keys = {index: key_of(row, chosen) for index, row in comparison.iterrows()}
    rests = {index: rest_of(row, chosen) for index, row in comparison.iterrows()}
    lines = _lines([key for key in keys.values() if key], styles)
    ordered = sorted(dict.fromkeys(rests.values()), key=lambda one: one != ())
    fills = dict(zip(ordered, FILLS, strict=False))
    coloured = {
        named(key) if len(key) == 1 else shared_words(comparison, keys, key) or named(key): Look(
            colour, "", line=line
        )
        for key, (colour, line) in lines.items()
    }
    filled = {
        shared_words(comparison, rests, rest) or named(rest): Look(SOFT, "o", fill)
        for rest, fill in fills.items()
        if rest
    }
    of = {index: (*lines.get(keys[index], PLAIN), fills[rests[index]]) for index in keys}
    return _Drawn(of, coloured | filled)


def _lines(keys: Sequence[Said], styles: dict[str, Style]) -> dict[Said, tuple[str, Any]]:
    """Colour and dashes of each key: shades in the order of numbers, else by its place.

    A value has its place among the choices of its field, so it looks the same in every figure where
    no other key came first.
    """
    found: dict[Said, tuple[str, Any]] = {}
    for name, values in shades(set(keys)).items():
        colours = _shades(len(values))
        found |= {((name, v),): (c, SOLID) for v, c in zip(values, colours, strict=True)}
    places = {key: place_of(key, styles) for key in keys if key not in found}
    free = dict(enumerate(VALUES))
    for key in sorted(places, key=lambda key: places[key] != 0):
        place = places[key]
        if place is not None and place in free:
            found[key] = free.pop(place)
    for key in places:
        if key not in found:
            found[key] = free.pop(min(free))
    return {key: found[key] for key in sorted(found, key=lambda key: places.get(key, 0) != 0)}


def _shades(count: int) -> list[str]:
    """So many colours from dark to light, which are told apart without hue as well."""
    return [to_hex(colormaps["viridis"](LIGHTEST * k / max(1, count - 1))) for k in range(count)]


def _one_by_one(comparison: pd.DataFrame) -> _Drawn:
    """Colour and filling of each variant of an arm by its number, where no fields give them."""
    said = {index: _curve(row) for index, row in comparison.iterrows()}
    of: dict[Any, tuple[str | None, Any, str]] = {}
    legend: dict[str, Look] = {}
    for arm in dict.fromkeys(comparison.arm):
        marker = styles_of(comparison)[arm].marker
        variants = list(dict.fromkeys(one for one in said.values() if one[0] == arm))
        several = len(variants) > 1
        lines = VALUES
        if len(variants) > len(VALUES) * len(FILLS):
            lines = tuple((c, SOLID) for c in _shades(-(-len(variants) // len(FILLS))))
        for number, variant in enumerate(variants):
            colour, line = lines[number % len(lines)] if several else PLAIN
            fill = FILLS[number // len(lines)]
            rows = [index for index, one in said.items() if one == variant]
            of |= dict.fromkeys(rows, (colour, line, fill))
            if several:
                legend[_number_name(comparison, said, rows, legend)] = Look(
                    str(colour), marker, fill
                )
    return _Drawn(of, legend)


def _number_name(
    comparison: pd.DataFrame, said: dict[Any, Any], rows: list[Any], taken: Collection[str]
) -> str:
    """What the labels of a variant's rows say beyond the arm, whose name comes first if taken."""
    names = dict.fromkeys(variant_name(comparison.loc[index]) for index in rows)
    name = next(iter(names))
    if len(names) > 1:
        name = shared_words(comparison, said, said[rows[0]]) or name
    arm = show.arm_name(str(comparison.arm[rows[0]]))
    return arm if not name else f"{arm}: {name}" if name in taken else name


__all__ = ["FILLS", "SOFT", "Look", "Looks", "by_arm", "looks", "styles_of", "variant_name"]
