"""The decompositions of selective layers, by any method, from one pass over calibration data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from harness.models.selective import METHODS, check_basis

from ..naming import naming_block
from ..stacks import StackDecomposition
from ..weighting.calibration import Calibration, listen
from .activations import Activations
from .decomposition import SelectiveDecomposition
from .free import FreeHeadSums, FreeSums
from .heads import HeadSums
from .means import Sums
from .pivoting import PivotedDecomposition, Pivots
from .taylor import Saliencies, look_back


def selective_decompositions(
    model: nn.Module, layers: Mapping[int, Any], how: str, calibration: Calibration
) -> dict[int, SelectiveDecomposition | StackDecomposition]:
    """The decompositions of these blocks, from one pass over the calibration batches; those of a
    layer in a free basis are stacks.

    Raises:
        ValueError: a method that does not exist; calibration that is empty or constant, or lacks
            the loss that `taylor` needs; or, naming the block, a method that the layer's basis or
            heads have no use for, a layer that is not heard as (batch, length, channels), or whose
            B and C the loss does not depend on.
        UnusableSystem: means that are not finite, or a state that never decays; names the block.
    """
    check_selective(how)
    sums: dict[int, Any] = {}
    for i, layer in layers.items():
        with naming_block(i):
            check_basis(how, basis_of(layer), layer.rates.dim() == 1)
            sums[i] = _sums_of(layer, how, calibration.seed)
    if how == "taylor":
        look_back(model, sums, layers, calibration)
    else:
        listen(model, layers, calibration.batches, lambda i, u: sums[i].add(u))
    found: dict[int, SelectiveDecomposition | StackDecomposition] = {}
    for i, one in sums.items():
        with naming_block(i):
            found[i] = _decomposition_of(one, how)
    return found


def basis_of(layer: Any) -> str:
    """The basis that a selective layer's states have, "own" where it does not say."""
    return getattr(layer, "basis", "own")


def check_selective(how: str) -> None:
    """Raise `ValueError` for a method that does not exist."""
    if how not in METHODS:
        raise ValueError(f"selective must be one of {', '.join(METHODS)}, not {how!r}")


def _decomposition_of(sums: Any, how: str) -> SelectiveDecomposition | StackDecomposition:
    if isinstance(sums, FreeSums | FreeHeadSums):
        return sums.decomposition(how)
    rates = sums.layer.rates.detach().clone()
    given = sums.shares(how), rates, sums.channels, sums.solved(how)
    if isinstance(sums, Pivots):
        return PivotedDecomposition(*given, sums.factors)
    return SelectiveDecomposition(*given)


def _sums_of(layer: Any, how: str, seed: int) -> Any:
    if how == "activation":
        return Activations(layer)
    if how == "taylor":
        return Saliencies(layer)
    if how == "drrqr":
        return Pivots(layer, seed)
    if basis_of(layer) == "free":
        return FreeHeadSums(layer) if layer.rates.dim() == 1 else FreeSums(layer)
    return HeadSums(layer) if layer.rates.dim() == 1 else Sums(layer)
