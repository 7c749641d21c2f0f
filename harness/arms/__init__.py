"""The arms: one small file each. `ARMS` is the only place that lists them."""

from harness.spec import SpecUnion

from .base import Arm, Turn
from .distill import DistillSpec
from .full import FullSpec
from .hankel_regularized import HankelRegularizedSpec
from .in_training import InTrainingSpec
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
ARM_UNION = SpecUnion("kind", ARMS)  # with those of plug-ins

__all__ = ["ARMS", "ARM_UNION", "Arm", "Turn", *(arm.__name__ for arm in ARMS)]
