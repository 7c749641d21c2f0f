"""What the other rooms give to an arm's hooks: its trial, an event, a step, a boundary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Training(Protocol):
    """What an arm needs to know about the training to schedule its events."""

    @property
    def steps(self) -> int: ...
    @property
    def evaluate_every(self) -> int: ...
    @property
    def protocol(self) -> str: ...


class Trial(Protocol):
    """What an arm may check before anything runs: the other specs of its trial."""

    @property
    def task(self) -> Any: ...
    @property
    def model(self) -> Any: ...
    @property
    def training(self) -> Training: ...


@dataclass(frozen=True)
class Event:
    """Which of an arm's truncations is due: `index` from 0, `of` how many (0: unknown), and a numpy
    generator for random choices, which depends only on seed and step. `within(max_loss)` gives the
    orders at which held-out training examples lose no more than that."""

    index: int = 0
    of: int = 1
    generator: Any = None
    within: Callable[[float], list[Any]] | None = None


@dataclass(frozen=True)
class StepWork:
    """What a training step works on: a model's spec, the order of each of its blocks (an int, or
    one per system of a stack), and the examples of a batch. `forward` gives the FLOPs of the
    forward pass of one example at such orders."""

    model: Any
    state_dims: Sequence[Any]
    batch: int
    forward: Callable[[Sequence[Any]], float]


class Boundary(Protocol):
    """The moment right after an optimizer step, as the loop offers it to an arm's hooks.

    `memory` is the arm's own state: JSON values, stored in checkpoints. `sign` is 1 if a higher
    validation metric is better, else -1.
    """

    step: int
    steps: int
    sign: float
    memory: dict[str, Any]

    @property
    def state_dims(self) -> list[int]:
        """The present states of each block."""
        ...

    @property
    def kept(self) -> float | None:
        """The validation metric of the model kept by `keep`; None if none is kept."""
        ...

    def measure(self) -> float:
        """The validation metric of the present model, evaluated once."""
        ...

    def keep(self) -> None:
        """Keep weights, running statistics and optimizer moments, in place of any kept before."""
        ...

    def restore(self) -> None:
        """Bring back what was kept, and evaluate it; it is then no longer kept."""
        ...

    def truncate(self) -> None:
        """Truncate to the arm's `ranks` now, without a planned event."""
        ...

    def end_events(self) -> None:
        """Cancel all further planned events."""
        ...
