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

    def events(self, steps: int) -> tuple[int, ...]:
        """The optimizer steps right after which `ranks` is asked; 0 means before training.

        Raises:
            ValueError: events that coincide or cannot be, in a run of `steps` steps.
        """
        return ()

    def ranks(self, spectra: Sequence[Any]) -> list[int]:
        """For each block the order to truncate to, from its Hankel singular values (N,)."""
        return [len(hsv) for hsv in spectra]

    def train_steps(self, steps: int) -> int:
        """How many optimizer steps this arm's own training takes."""
        return steps
