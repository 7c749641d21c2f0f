"""Full size: train and leave the states alone."""

from typing import Literal

from .base import Arm


class FullSpec(Arm):
    """Ordinary training at the model's own state dimension."""

    kind: Literal["full"]
