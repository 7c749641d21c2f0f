"""Arms whose size is given, or taken from an arm that chooses its own."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import field_validator, model_validator

from harness.spec import StateDims

from .base import Arm, SizesOf
from .given import Trial
from .kinds import ARM_UNION

if TYPE_CHECKING:
    AnotherArm = Arm
else:
    AnotherArm = Annotated[Any, ARM_UNION]


class SizedArm(Arm):
    """Sizes are given (`state_dims`) or taken from another arm (`match`, `to`).

    `match="seed"` takes the same seed's final state dimensions, block by block; `"mean"` the
    mean over seeds and blocks, rounded. `to` is any arm that chooses its own sizes.
    """

    planned: ClassVar[frozenset[str]] = frozenset({"match", "to", "state_dims"})
    sizing: ClassVar[frozenset[str]] = planned

    state_dims: StateDims | None = None
    match: Literal["seed", "mean"] | None = None
    to: AnotherArm | None = None

    @field_validator("to")
    @classmethod
    def _to_has_sizes(cls, to: Arm | None) -> Arm | None:
        if to is not None and not to.chooses_sizes:
            raise ValueError(f"{to.named} chooses no sizes that another could take")
        return to

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
        """The possible sources of the model's final size; exactly one must be set."""
        return {"state_dims": self.state_dims} | ({"match": self.match} if self.match else {})

    def check(self, trial: Trial) -> None:
        super().check(trial)
        model = trial.model
        if self.state_dims is None:
            return
        if len(self.state_dims) not in (1, model.blocks):
            raise ValueError(
                f"arm.state_dims lists {len(self.state_dims)} for {model.blocks} blocks"
            )
        for i, (r, n) in enumerate(zip(self.dims(model.blocks), model.state_dims, strict=True)):
            if r > n:
                raise ValueError(f"arm.state_dims asks block {i} for {r} of its {n} states")

    @property
    def chooses_sizes(self) -> bool:
        return self.state_dims is None and self.to is None

    @property
    def sizes_of(self) -> SizesOf | None:
        if self.to is None or self.match is None:
            return None
        return SizesOf(self.to, self.match)

    def with_sizes(self, found: Sequence[Sequence[float]], blocks: int) -> Arm:
        dims = [round(n) for n in found[0]]
        if self.match == "mean":
            dims = [round(mean(n for one in found for n in one))] * blocks
        sized = {**self.model_dump(), "match": None, "to": None, "state_dims": tuple(dims)}
        return type(self).model_validate(sized)

    def given_dims(self, model: Any) -> list[int] | None:
        """`state_dims`, one per block of a model; None if they are not given, or not yet."""
        return None if self.state_dims is None else self.dims(model.blocks)

    def dims(self, blocks: int) -> list[int]:
        """The given sizes, one per block.

        Raises:
            ValueError: only a plan can find out the sizes.
        """
        if self.state_dims is None:
            raise ValueError(f"{self.named} that matches needs the plan to resolve its sizes")
        return list(self.state_dims) * (blocks if len(self.state_dims) == 1 else 1)
