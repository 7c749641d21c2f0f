"""Blocks calibrated in order, each on what the truncated ones before it give.

So do one-shot pruning methods (SparseGPT, arXiv 2301.00774; Wanda, arXiv 2306.11695).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import nn

from harness.models.orders import Order, order_of

from ..blocks import decomposed_of, layers
from ..change import change
from ..pieces import BlockTruncation, all_reduced
from ..ranks import BlockDecomposition
from ..real import Realness
from ..stacks import StackDecomposition
from .calibration import Calibration
from .choice import Weighting
from .measured import unweighted, weighted_decompositions

Swept = tuple[dict[int, BlockDecomposition], dict[int, BlockTruncation]]


def swept(
    model: nn.Module,
    moving: Mapping[int, nn.Module],
    rank: Callable[[int, BlockDecomposition], Order],
    how: str,
    weighting: Weighting,
    calibration: Calibration,
    given: Mapping[int, BlockDecomposition] | None = None,
    realness: Realness = "complex",
) -> Swept:
    """The decompositions and truncations of the moving layers, block by block, in a copy of the
    model: block i is measured where those before it have the sizes that `rank` gave them, those
    after it their own. A block already at its rank has no truncation. The model stays as it is.

    how: as of `all_reduced`. given: decompositions of the model as it is, under the weighting. They
    save the passes up to the first block that changes, which hears what it hears in the full model.

    Raises:
        ValueError: as `weighted_decompositions`, `all_reduced` and `change`.
    """
    copied = copy.deepcopy(model)
    found = layers(copied)
    if given is None:
        white = decomposed_of({i: found[i] for i in moving}, realness)
    else:
        white = _white(given)
    systems: dict[int, BlockDecomposition] = {}
    done: dict[int, BlockTruncation] = {}
    for i in moving:
        if given is not None and not done:
            systems[i] = given[i]
        else:
            systems |= weighted_decompositions(
                copied, {i: found[i]}, {i: white[i]}, weighting, calibration
            )
        order = rank(i, systems[i])
        if order != order_of(found[i]):
            (done[i],) = all_reduced(systems, {i: order}, how, None)
            change(copied, found, {i: done[i]}, None, "reset")
    return systems, done


def _white(given: Mapping[int, BlockDecomposition]) -> dict[int, BlockDecomposition]:
    """The published decompositions behind weighted ones."""
    found: dict[int, BlockDecomposition] = {}
    for i, block in given.items():
        all_white = [unweighted(one) for one in block.systems]
        if isinstance(block, StackDecomposition):
            found[i] = replace(block, systems=tuple(all_white))
        else:
            found[i] = all_white[0]
    return found
