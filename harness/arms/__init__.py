"""The arms: one small file each. `ARMS` is the only place that lists ours."""

from .base import Arm, SizesOf, Style
from .distill import DistillSpec
from .full import FullSpec
from .given import Boundary, Event, StepWork
from .hankel_regularized import HankelRegularizedSpec
from .in_training import InTrainingSpec
from .kinds import ARM_UNION, of_kind
from .post_hoc import PostHocSpec
from .small import SmallSpec

ARMS = (
    FullSpec,
    InTrainingSpec,
    PostHocSpec,
    SmallSpec,
    DistillSpec,
    HankelRegularizedSpec,
)
for _arm in ARMS:
    ARM_UNION.add(_arm)

__all__ = [
    "ARMS",
    "ARM_UNION",
    "Arm",
    "Boundary",
    "Event",
    "SizesOf",
    "StepWork",
    "Style",
    "of_kind",
    *(arm.__name__ for arm in ARMS),
]
