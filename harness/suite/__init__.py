"""Suites and the specs inside them."""

from harness.arms import (
    DistillSpec,
    FullSpec,
    HankelRegularizedSpec,
    InTrainingSpec,
    PostHocSpec,
    SmallSpec,
)
from harness.models.specs import GRUSpec, LRUSpec, ModelSpec

from .explain import explain
from .grid import grid
from .load import available, load, override
from .specs import TaskSpec, TrainingSpec, TrialSpec, canonical
from .suite import Comparison, Role, Suite

__all__ = [
    "Comparison",
    "DistillSpec",
    "FullSpec",
    "GRUSpec",
    "HankelRegularizedSpec",
    "InTrainingSpec",
    "LRUSpec",
    "ModelSpec",
    "PostHocSpec",
    "Role",
    "SmallSpec",
    "Suite",
    "TaskSpec",
    "TrainingSpec",
    "TrialSpec",
    "available",
    "canonical",
    "explain",
    "grid",
    "load",
    "override",
]
