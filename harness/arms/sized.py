"""Arms whose size is given, or is that of an in-training arm."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from harness.spec import StateDims

from .base import Arm
from .in_training import InTrainingSpec


class SizedArm(Arm):
    """Sizes given (`state_dims`), or those that an in-training arm ended with (`match`, `to`).

    `match="seed"` takes the same seed's final state dimensions, block by block; `"mean"` the
    mean over seeds and blocks, rounded.
    """

    state_dims: StateDims | None = None
    match: Literal["seed", "mean"] | None = None
    to: InTrainingSpec | None = None

    @model_validator(mode="after")
    def _one_source_of_sizes(self) -> SizedArm:
        if (self.match is None) != (self.to is None):
            raise ValueError("`match` and `to` (an in_training arm) go together")
        sources = self._sources()
        if sum(source is not None for source in sources.values()) != 1:
            named = ", ".join(f"`{name}`" for name in sources)
            raise ValueError(f"give exactly one of {named}, or `match` with `to`")
        return self

    def _sources(self) -> dict[str, object]:
        """What can say how large the model becomes; exactly one of them does."""
        return {"state_dims": self.state_dims} | ({"match": self.match} if self.match else {})

    def dims(self, blocks: int) -> list[int]:
        """The given sizes, one per block.

        Raises:
            ValueError: sizes that only a plan can find out.
        """
        if self.state_dims is None:
            raise ValueError(f"a {self.kind} arm that matches needs the plan to resolve its sizes")
        return list(self.state_dims) * (blocks if len(self.state_dims) == 1 else 1)
