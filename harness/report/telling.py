"""Which fields of their specs tell the rows of a comparison apart: some by colour, the rest by
filling.

A row has a *key*, what its variant says of the fields that give the colour, and a *rest*, what it
says otherwise where that is not the default.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping
from itertools import combinations
from typing import Any, get_args

import pandas as pd

from harness.arms import of_kind
from harness.report import presentation as show
from harness.report.comparison.variants import fields

Said = tuple[tuple[str, Any], ...]
CURVE = 3  # sizes that make a curve
MOST_FIELDS = 3  # that give the colour together
MOST_SHADES = 8  # that one can tell apart


def has_curves(comparison: pd.DataFrame) -> bool:
    """Whether some arm has two variants, of three sizes or more each, in one panel."""
    for _, rows in show.sections(comparison):
        for _, ours in rows.groupby("arm", sort=False):
            sizes = ours.groupby("variant").state_dim_mean.nunique()
            if (sizes >= CURVE).sum() >= 2:
                return True
    return False


def has_variants(comparison: pd.DataFrame) -> bool:
    """Whether some arm has two variants in one panel."""
    return any(
        (rows.groupby("arm").variant.nunique() > 1).any() for _, rows in show.sections(comparison)
    )


def telling_fields(comparison: pd.DataFrame, colours: int, fillings: int) -> frozenset[str] | None:
    """The fields that give the colour: those with fewest entries of the legend, then fillings.

    None if all of them take more than these numbers of colours (numbers are shades, and have a
    limit of their own) or fillings.
    """
    best: tuple[tuple[int, int, int], frozenset[str]] | None = None
    for chosen in _choices(comparison):
        keys = {key_of(row, chosen) for _, row in comparison.iterrows()} - {()}
        rests = {rest_of(row, chosen) for _, row in comparison.iterrows()}
        graded = shades(keys)
        if len(keys) - sum(map(len, graded.values())) > colours or len(rests) > fillings:
            continue
        if any(len(values) > MOST_SHADES for values in graded.values()):
            continue
        cost = len(keys) + len(rests), len(rests), len(chosen)
        if best is None or cost < best[0]:
            best = cost, chosen
    return None if best is None else best[1]


def _choices(comparison: pd.DataFrame) -> Iterator[frozenset[str]]:
    names = dict.fromkeys(name for one in comparison.variant.dropna() for name in fields(one))
    for size in range(1, MOST_FIELDS + 1):
        yield from map(frozenset, combinations(names, size))


def key_of(row: pd.Series, chosen: Collection[str]) -> Said:
    """What the variant of a row says of the chosen fields; empty if it says nothing."""
    return tuple((n, value) for n, value in fields(row.variant).items() if n in chosen)


def rest_of(row: pd.Series, chosen: Collection[str]) -> Said:
    """What the variant of a row says besides the chosen fields, where it is not the default."""
    known = of_kind(str(row.arm)).model_fields
    return tuple(
        (name, value)
        for name, value in fields(row.variant).items()
        if name not in chosen and (name not in known or value != known[name].default)
    )


def shades(keys: Collection[Said]) -> dict[str, list[Any]]:
    """The fields that are keys by themselves with numbers only, and these in order."""
    found: dict[str, list[Any]] = {}
    for key in keys:
        if len(key) == 1:
            found.setdefault(key[0][0], []).append(key[0][1])
    return {
        name: sorted(values)
        for name, values in found.items()
        if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    }


def place_of(key: Said, arms: Collection[str]) -> int | None:
    """The place of a value among the choices of its field; 0 if all of a key's are defaults.

    None if several are not, or if the field has no list of choices.
    """
    known = {n: field for arm in arms for n, field in of_kind(arm).model_fields.items()}
    other = [(n, v) for n, v in key if n not in known or str(v) != str(known[n].default)]
    if len(other) != 1 or other[0][0] not in known:
        return None if other else 0
    choices = get_args(known[other[0][0]].annotation)
    return choices.index(other[0][1]) if other[0][1] in choices else None


def shared_words(comparison: pd.DataFrame, said: Mapping[Any, Hashable], one: Hashable) -> str:
    """The words of the labels of the rows that say this which no other label of their arms has."""
    words = {
        i: [w.rstrip(",") for w in str(label).split()] for i, label in comparison.label.items()
    }
    ours = [index for index, what in said.items() if what == one]
    arms = set(comparison.arm[ours])
    theirs = [i for i in words if i not in ours and comparison.arm[i] in arms]
    others = {word for index in theirs for word in words[index]}
    return " ".join(
        word
        for word in words[ours[0]]
        if word not in others and all(word in words[index] for index in ours)
    )


def named(said: Said) -> str:
    """Fields and values in words, without those that are not set, if any is."""
    given = [one for one in said if one[1] is not None] or said
    return ", ".join(f"{name} {value}" for name, value in given)


__all__ = [
    "Said",
    "has_curves",
    "has_variants",
    "key_of",
    "named",
    "place_of",
    "rest_of",
    "shades",
    "shared_words",
    "telling_fields",
]
