"""Suites and the specs inside them."""

from harness.arms import (
    DistillSpec,
    FullSpec,
    HankelRegularizedSpec,
    InTrainingSpec,
    PostHocSpec,
    SmallSpec,
)
from harness.models.specs import GRUSpec, LRUSpec, Mamba2Spec, MambaSpec, ModelSpec, S4DSpec, S5Spec

from .explain import explain
from .grid import grid
from .load import available, load, override
from .resources import SuiteResources
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
    "Mamba2Spec",
    "MambaSpec",
    "ModelSpec",
    "PostHocSpec",
    "Role",
    "S4DSpec",
    "S5Spec",
    "SmallSpec",
    "Suite",
    "SuiteResources",
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
