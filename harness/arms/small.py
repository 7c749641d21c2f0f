"""Small from scratch: the full arm at a smaller state dimension."""

from __future__ import annotations

from typing import ClassVar, Literal

from .sized import SizedArm


class SmallSpec(SizedArm):
    """Sizes given (`state_dims`), or those that an in-training arm ended with (`match`, `to`)."""

    shrinks: ClassVar[bool] = True

    kind: Literal["small"]
