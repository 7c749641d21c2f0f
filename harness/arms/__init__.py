"""The arms: one small file each. `ARMS` is the only place that lists them."""

from .base import Arm
from .full import FullSpec
from .in_training import InTrainingSpec
from .post_hoc import PostHocSpec
from .small import SmallSpec

ARMS = (FullSpec, InTrainingSpec, PostHocSpec, SmallSpec)

__all__ = ["ARMS", "Arm", "FullSpec", "InTrainingSpec", "PostHocSpec", "SmallSpec"]
