"""The specs of models: a backbone around layers of one kind. Without torch, for a plan.

A spec says all that must be known of its layers before there are any: their FLOPs and parameters,
what they can do (`capabilities`), whether they can run, and which class they are of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from harness.spec import SpecUnion

from .base import BackboneSpec, ScanSpec
from .gru import GRUSpec
from .lru import LRUSpec
from .mamba import MambaSpec
from .mamba2 import Mamba2Spec
from .s4d import S4DSpec
from .s5 import S5Spec

DEFAULT_KIND = "lru"  # of a model that names none, as those of the first version do

MODELS: tuple[type[BackboneSpec], ...] = (LRUSpec, GRUSpec, S5Spec, S4DSpec, MambaSpec, Mamba2Spec)
MODEL_UNION = SpecUnion("kind", MODELS, default=DEFAULT_KIND)  # with those of plug-ins

if TYPE_CHECKING:
    AnyModel = BackboneSpec
else:
    AnyModel = Annotated[Any, MODEL_UNION]


def ModelSpec(**fields: Any) -> Any:
    """The validated spec of the model of this `kind` (default lru)."""
    return MODEL_UNION.validate(fields)


def with_dims(model: BackboneSpec, dims: Sequence[int]) -> Any:
    """The model's spec at these state dimensions, one per block."""
    fields = {**model.model_dump(), **model.at_dims(dims), "state_dim": list(dims)}
    return ModelSpec(**fields)


__all__ = [
    "DEFAULT_KIND",
    "MODELS",
    "MODEL_UNION",
    "AnyModel",
    "BackboneSpec",
    "GRUSpec",
    "LRUSpec",
    "Mamba2Spec",
    "MambaSpec",
    "ModelSpec",
    "S4DSpec",
    "S5Spec",
    "ScanSpec",
    "with_dims",
]
