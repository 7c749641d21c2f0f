"""The contract of an arm: what a way to a small model must say about itself.

An arm is a frozen spec with a few methods. It never touches a model: the training loop asks it
when to truncate and to which ranks, and does the rest, so that every arm is measured alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field

from harness.spec import Spec

StateDim = Annotated[int, Field(ge=1)]
StateDims = Annotated[tuple[StateDim, ...], Field(strict=False, min_length=1)]


class Arm(Spec):
    """A way to reach a model of some size. Subclasses add `kind` and their knobs."""

    kind: str
    # Whether it begins with the selected model of the `full` trial of the same seed.
    needs_full: ClassVar[bool] = False
    # The knobs that say when something happens, and nothing else.
    timing: ClassVar[frozenset[str]] = frozenset()

    def events(self, steps: int) -> tuple[int, ...]:
        """The optimizer steps right after which `ranks` is asked; 0 means before training.

        Raises:
            ValueError: events that coincide or cannot be, in a run of `steps` steps.
        """
        return ()

    def acts(self, steps: int) -> tuple[tuple[int, str], ...]:
        """(step, what is done there) of every event: two arms whose acts agree up to a step train
        alike up to there.

        Raises:
            ValueError: as `events`.
        """
        how = self.model_dump_json(exclude=set(self.timing))
        return tuple((step, how) for step in self.events(steps))

    def ranks(self, spectra: Sequence[Any]) -> list[int]:
        """For each block the order to truncate to, from its Hankel singular values (N,)."""
        return [len(hsv) for hsv in spectra]

    def train_steps(self, steps: int) -> int:
        """How many optimizer steps this arm's own training takes."""
        return steps
