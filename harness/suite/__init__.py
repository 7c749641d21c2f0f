"""Suites and the specs inside them."""

from harness.arms import FullSpec, InTrainingSpec, PostHocSpec, SmallSpec

from .specs import LRUSpec, ModelSpec, TaskSpec, TrainingSpec, TrialSpec, canonical

__all__ = [
    "FullSpec",
    "InTrainingSpec",
    "LRUSpec",
    "ModelSpec",
    "PostHocSpec",
    "SmallSpec",
    "TaskSpec",
    "TrainingSpec",
    "TrialSpec",
    "canonical",
]
