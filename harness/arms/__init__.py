"""The arms: one small file each. `ARMS` is the only place that lists them."""

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

__all__ = ["ARMS", "Arm", "Turn", *(arm.__name__ for arm in ARMS)]
