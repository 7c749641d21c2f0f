"""The contract of an arm: what a way to a small model must say about itself.

An arm is a frozen spec with a few methods. It never touches a model: the training loop asks it
when to truncate and to which ranks, and does the rest, so that every arm is measured alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from harness.models.layers.capabilities import Capability
from harness.spec import Spec


class Training(Protocol):
    """What an arm must know of the training to say when things happen."""

    @property
    def steps(self) -> int: ...
    @property
    def evaluate_every(self) -> int: ...
    @property
    def protocol(self) -> str: ...


@dataclass(frozen=True)
class Turn:
    """Which of an arm's events is on, counted from 0, of how many; and a generator for lots."""

    index: int = 0
    of: int = 1
    generator: Any = None


class Arm(Spec):
    """A way to reach a model of some size. Subclasses add `kind` and their knobs."""

    kind: str
    # Whether the `full` trial of the same seed must have completed, and whether this one begins
    # with its selected model.
    needs_full: ClassVar[bool] = False
    from_full: ClassVar[bool] = False
    # Whether the sizes that it is given must fit into the trial's model.
    shrinks: ClassVar[bool] = False
    # Whether events come to the best model so far rather than to the newest.
    from_best: ClassVar[bool] = False
    # The knobs that say when something happens, and nothing else.
    timing: ClassVar[frozenset[str]] = frozenset()

    def events(self, steps: int) -> tuple[int, ...]:
        """The optimizer steps right after which `ranks` is asked; 0 means before training.

        Raises:
            ValueError: events that coincide or cannot be, in a run of `steps` steps.
        """
        return ()

    def happens(self, training: Training) -> tuple[int, ...]:
        """`events` as the training's protocol has them. Raises as `events`."""
        return self.events(training.steps)

    def acts(self, training: Training) -> tuple[tuple[int, str], ...]:
        """(step, what is done there) of every event: two arms whose acts agree up to a step train
        alike up to there.

        Raises:
            ValueError: as `events`.
        """
        how = self.model_dump_json(exclude=set(self.timing))
        return tuple((step, how) for step in self.happens(training))

    def ranks(self, systems: Sequence[Any], turn: Turn) -> list[int]:
        """For each block the order to truncate to, from its `harness.reduction.Decomposition`."""
        return [len(system.hsv) for system in systems]

    @property
    def manner(self) -> dict[str, str]:
        """How a truncation is done: arguments of `harness.reduction.truncate`."""
        return {"moments": "reset"}

    @property
    def needs(self) -> tuple[Capability, ...]:
        """What the model's layers must be able to do; checked before anything starts."""
        return ()

    def train_steps(self, steps: int) -> int:
        """How many optimizer steps this arm's own training takes."""
        return steps
