"""Small from scratch: the full arm at a smaller state dimension."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from .base import Arm, StateDims
from .in_training import InTrainingSpec


class SmallSpec(Arm):
    """Sizes given (`state_dims`), or those that an in-training arm ended with (`match`, `to`).

    `match="seed"` takes the same seed's final state dimensions, block by block; `"mean"` the
    mean over seeds and blocks, rounded.
    """

    kind: Literal["small"]
    state_dims: StateDims | None = None
    match: Literal["seed", "mean"] | None = None
    to: InTrainingSpec | None = None

    @model_validator(mode="after")
    def _one_source_of_sizes(self) -> SmallSpec:
        if (self.match is None) != (self.to is None):
            raise ValueError("`match` and `to` (an in_training arm) go together")
        if (self.state_dims is None) == (self.match is None):
            raise ValueError("give either `state_dims` or `match` with `to`")
        return self
