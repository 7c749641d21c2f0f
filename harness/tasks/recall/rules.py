"""How each recall task draws its examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from harness.tasks.specs.recall import (
    CopyingSpec,
    InductionSpec,
    MqarSpec,
    SelectiveCopyingSpec,
)


class Drawn(NamedTuple):
    """Tokens (n, length), and for each of k answers the steps (n, k) where it stands (`shown`) and
    where it is asked for (`asked`): the target at step `asked` is the token at step `shown`."""

    tokens: np.ndarray
    shown: np.ndarray
    asked: np.ndarray


def mqar(spec: MqarSpec, count: int, rng: np.random.Generator) -> Drawn:
    """Pairs first, then queries in slots of two steps, by the power law."""
    first = 2 * spec.pairs  # step after the pairs
    tokens = rng.integers(spec.vocabulary, size=(count, spec.length))
    keys = _distinct(rng, count, spec.keys, spec.pairs)
    tokens[:, 0:first:2] = keys
    tokens[:, 1:first:2] = spec.keys + _distinct(rng, count, spec.choices, spec.pairs)
    slots = np.arange(1, (spec.length - first) // 2 + 1)
    weights = slots ** (spec.power - 1.0)
    asked = first + 2 * _distinct(rng, count, len(slots), spec.pairs, weights)
    np.put_along_axis(tokens, asked, keys, axis=1)
    return Drawn(tokens, np.tile(np.arange(1, first, 2), (count, 1)), asked)


def copying(spec: CopyingSpec, count: int, rng: np.random.Generator) -> Drawn:
    """Symbols at the first steps, marks at the last."""
    return _copied(spec, rng, np.tile(np.arange(spec.tokens), (count, 1)))


def selective_copying(spec: SelectiveCopyingSpec, count: int, rng: np.random.Generator) -> Drawn:
    """Symbols anywhere before the marks."""
    places = _distinct(rng, count, spec.length - spec.tokens, spec.tokens)
    return _copied(spec, rng, np.sort(places, axis=1))


def _copied(spec: CopyingSpec, rng: np.random.Generator, shown: np.ndarray) -> Drawn:
    blank, mark, symbols = 0, 1, 2
    tokens = np.full((len(shown), spec.length), blank)
    drawn = symbols + rng.integers(spec.choices, size=shown.shape)
    np.put_along_axis(tokens, shown, drawn, axis=1)
    tokens[:, -spec.tokens :] = mark
    asked = np.arange(spec.length - spec.tokens, spec.length)
    return Drawn(tokens, shown, np.tile(asked, (len(shown), 1)))


def induction(spec: InductionSpec, count: int, rng: np.random.Generator) -> Drawn:
    """The special token at any step but the last two, and at the last."""
    special = 0
    tokens = 1 + rng.integers(spec.choices, size=(count, spec.length))
    place = rng.integers(spec.length - 2, size=(count, 1))
    np.put_along_axis(tokens, place, special, axis=1)
    tokens[:, -1] = special
    return Drawn(tokens, place + 1, np.full((count, 1), spec.length - 1))


RULES: dict[str, Callable[[Any, int, np.random.Generator], Drawn]] = {
    "mqar": mqar,
    "copying": copying,
    "selective_copying": selective_copying,
    "induction": induction,
}


def _distinct(
    rng: np.random.Generator,
    count: int,
    choices: int,
    taken: int,
    weights: np.ndarray | float = 1.0,
) -> np.ndarray:
    """(count, taken) numbers out of 0..choices-1, in each row drawn one after the other without
    replacement in proportion to `weights` (choices,).

    Exponential arrival times of these rates come in that order (Efraimidis and Spirakis 2006).
    """
    arrivals = rng.standard_exponential((count, choices)) / weights
    if taken == choices:
        return np.argsort(arrivals, axis=1)
    first = np.argpartition(arrivals, taken, axis=1)[:, :taken]
    order = np.argsort(np.take_along_axis(arrivals, first, axis=1), axis=1)
    return np.take_along_axis(first, order, axis=1)
