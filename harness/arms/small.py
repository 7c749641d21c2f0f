"""Small from scratch: the full arm at a smaller state dimension."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from .base import Style
from .sized import SizedArm


class SmallSpec(SizedArm):
    """Sizes are given (`state_dims`) or taken from another arm (`match`, `to`)."""

    title: ClassVar[str] = "small from scratch"
    table_place: ClassVar[int] = 50
    style: ClassVar[Style | None] = Style("#009E73", "D")
    baseline: ClassVar[Literal["full", "small"] | None] = "small"
    runs_as_full: ClassVar[bool] = True

    kind: Literal["small"] = "small"

    def initial_dims(self, model: Any) -> list[int] | None:
        return self.given_dims(model)
