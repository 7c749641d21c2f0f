"""How figures tell rows apart: colour, marker, filling and line of each row.

An arm keeps its colour and marker in every figure. Several rows of one arm are told apart by how
their markers are filled. Where an arm has several curves of metric against size, the field of its
spec in which they differ most (`gramians`, say) gives the colour and the dashes, the arm the
marker, and what else differs the filling. The colours are those of Okabe and Ito, which
colour-blind readers can tell apart; the dashes serve in print.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from harness.arms import ARM_UNION, Style, of_kind
from harness.report import presentation as show
from harness.report.comparison.variants import fields

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
CURVE = 3  # sizes that make a curve


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
    is False if there are more variants than fillings, so that points need names.
    """

    of: dict[Any, Look]
    curve: dict[Any, tuple[str, str]]
    arms: dict[str, Look]
    rest: dict[str, Look]
    curves: bool
    are_told: bool


def looks(comparison: pd.DataFrame) -> Looks:
    """How the rows of a comparison are drawn."""
    styles = styles_of(comparison)
    field = _telling_field(comparison)
    return _by_filling(comparison, styles) if field is None else _by(field, comparison, styles)


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


def _curves(comparison: pd.DataFrame) -> dict[Any, tuple[str, str]]:
    return {index: _curve(row) for index, row in comparison.iterrows()}


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


def _telling_field(comparison: pd.DataFrame) -> str | None:
    """The field with most values of an arm that has several curves; None if there is no such arm.

    None also if it has more values than there are colours, or the rest more than fillings.
    """
    values: dict[str, set[Any]] = {}
    for _, rows in show.sections(comparison):
        for _, ours in rows.groupby("arm", sort=False):
            sizes = ours.groupby("variant").state_dim_mean.nunique()
            long = sizes[sizes >= CURVE].index
            if len(long) < 2:
                continue
            for variant in long:
                for name, value in fields(variant).items():
                    values.setdefault(name, set()).add(value)
    if not values:
        return None
    found = max(values, key=lambda name: len(values[name]))
    every = [fields(variant) for variant in comparison.variant.dropna()]
    colours = {one[found] for one in every if found in one}
    rest = {_rest(row, found) for _, row in comparison.iterrows()}
    return found if len(colours) <= len(VALUES) and len(rest) <= len(FILLS) else None


def _rest(row: pd.Series, field: str) -> tuple[tuple[str, Any], ...]:
    """What the variant of a row says besides a field, where it is not the default."""
    known = of_kind(str(row.arm)).model_fields
    return tuple(
        (name, value)
        for name, value in fields(row.variant).items()
        if name != field and (name not in known or value != known[name].default)
    )


def _by(field: str, comparison: pd.DataFrame, styles: dict[str, Style]) -> Looks:
    """Colour and dashes by a field, marker by arm, filling by all else."""
    values = {index: fields(row.variant) for index, row in comparison.iterrows()}
    rests = {index: _rest(row, field) for index, row in comparison.iterrows()}
    lines = _lines(field, styles, [one[field] for one in values.values() if field in one])
    fills = dict(
        zip(sorted(dict.fromkeys(rests.values()), key=lambda one: one != ()), FILLS, strict=False)
    )
    of, arms = {}, {arm: Look(*style) for arm, style in styles.items()}
    for index, arm in comparison.arm.items():
        style, told = styles[arm], field in values[index]
        colour, line = lines[values[index][field]] if told else (style.colour, SOLID)
        of[index] = Look(colour, style.marker, fills[rests[index]], line)
        if told:
            arms[arm] = Look(SOFT, style.marker)
    coloured = {
        f"{field} {value}": Look(colour, "", line=line) for value, (colour, line) in lines.items()
    }
    filled = {
        _rest_name(comparison, rests, rest): Look(SOFT, "o", fill)
        for rest, fill in fills.items()
        if rest
    }
    return Looks(of, _curves(comparison), arms, coloured | filled, curves=True, are_told=True)


def _lines(field: str, styles: dict[str, Style], values: list[Any]) -> dict[Any, tuple[str, Any]]:
    """Colour and dashes of each value of a field, an arm's default first."""
    specs = [of_kind(arm).model_fields for arm in styles]
    defaults = [known[field].default for known in specs if field in known]
    ordered = sorted(dict.fromkeys(values), key=lambda value: value not in defaults)
    return dict(zip(ordered, VALUES, strict=False))


def _rest_name(comparison: pd.DataFrame, rests: dict[Any, tuple], rest: tuple) -> str:
    """The words that the labels of these rows share and no other label of their arms has; without
    any, the fields and values."""
    words = {index: str(label).split() for index, label in comparison.label.items()}
    ours = [index for index, one in rests.items() if one == rest]
    arms = set(comparison.arm[ours])
    theirs = [i for i in words if i not in ours and comparison.arm[i] in arms]
    others = {word for index in theirs for word in words[index]}
    shared = [
        word
        for word in words[ours[0]]
        if word not in others and all(word in words[index] for index in ours)
    ]
    return " ".join(shared) or ", ".join(f"{name} {value}" for name, value in rest)


__all__ = ["CURVE", "FILLS", "SOFT", "Look", "Looks", "looks", "styles_of", "variant_name"]
