"""Full size: train and leave the states alone."""

from typing import ClassVar, Literal

from .base import Arm, Style


class FullSpec(Arm):
    """Ordinary training at the model's own state dimension."""

    title: ClassVar[str] = "full size"
    table_place: ClassVar[int] = 0
    style: ClassVar[Style | None] = Style("#000000", "s")
    baseline: ClassVar[Literal["full", "small"] | None] = "full"

    kind: Literal["full"] = "full"
