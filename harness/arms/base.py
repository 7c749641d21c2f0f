"""The contract of an arm: all that a way to a small model can be.

An arm is a frozen spec with a few hooks, each of which has a default. The rooms outside ask these
hooks and nothing else, so an arm is one new file. It never touches a model by itself: the training
loop calls its hooks and does the rest, so that every arm is measured alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol

from pydantic import SerializationInfo, SerializerFunctionWrapHandler, model_serializer

from harness.models.layers.capabilities import Capability
from harness.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor, nn

    Loss = Callable[[Tensor, Tensor], Tensor]  # of logits and targets

EventKeys = tuple[tuple[int, str], ...]


class Training(Protocol):
    """What an arm must know of the training to say when things happen."""

    @property
    def steps(self) -> int: ...
    @property
    def evaluate_every(self) -> int: ...
    @property
    def protocol(self) -> str: ...


class Trial(Protocol):
    """What an arm may check before anything runs: the specs that it stands beside."""

    @property
    def task(self) -> Any: ...
    @property
    def model(self) -> Any: ...
    @property
    def training(self) -> Training: ...


class Style(NamedTuple):
    """How an arm is drawn in every figure: a colour (`#rrggbb`) and a marker of matplotlib's."""

    colour: str
    marker: str


@dataclass(frozen=True)
class Event:
    """Which of an arm's truncations is due, counted from 0, of how many (0: nobody knows), and a
    numpy generator of its own, a function of seed and step alone, for random choices."""

    index: int = 0
    of: int = 1
    generator: Any = None


@dataclass(frozen=True)
class SizesOf:
    """Another arm whose final sizes this one takes: those of the same `seed`, block by block, or
    the `mean` over seeds and blocks."""

    arm: Arm
    over: Literal["seed", "mean"]


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

    `memory` is the arm's own: JSON values, which checkpoints carry. `sign` is 1 where a higher
    validation metric is better, else -1.
    """

    step: int
    steps: int
    sign: float
    memory: dict[str, Any]

    @property
    def state_dims(self) -> list[int]:
        """States of each block now."""
        ...

    @property
    def kept(self) -> float | None:
        """The validation metric of the model that `keep` kept; None where none is kept."""
        ...

    def measure(self) -> float:
        """The validation metric of the present model, evaluated once."""
        ...

    def keep(self) -> None:
        """Keep weights, running statistics and optimizer moments, in place of any kept before."""
        ...

    def restore(self) -> None:
        """Bring back what was kept, and evaluate it; it is kept no longer."""
        ...

    def truncate(self) -> None:
        """Truncate to the arm's `ranks` now, though no event was planned."""
        ...

    def end_events(self) -> None:
        """No planned event follows any more."""
        ...


class Arm(Spec):
    """A way to reach a model of some size. A subclass gives `kind` and its own fields, each with a
    default: `kind: Literal["mine"] = "mine"`."""

    kind: str

    # In tables and figures: its name, its place within rows of equal size, its colour and marker.
    title: ClassVar[str] = ""
    table_place: ClassVar[int] = 100
    style: ClassVar[Style | None] = None
    # The rows that others are measured against: `full` size, and `small` from scratch.
    baseline: ClassVar[Literal["full", "small"] | None] = None
    # Whether the report's sentences say who won from this arm's point of view.
    is_subject: ClassVar[bool] = False

    # Whether the `full` trial of the same seed must have completed, and whether this one begins
    # with its selected model; else it may learn from that as a teacher.
    needs_full: ClassVar[bool] = False
    from_full: ClassVar[bool] = False
    # Whether it is the `full` trial of a model of its sizes, and shares its result.
    runs_as_full: ClassVar[bool] = False
    # Whether events come to the best model so far rather than to the newest.
    from_best: ClassVar[bool] = False
    # The knobs that say when something happens, and nothing else.
    timing: ClassVar[frozenset[str]] = frozenset()
    # The fields that a plan fills in where `sizes_of` names another arm.
    planned: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _says_its_kind(
        self, handler: SerializerFunctionWrapHandler, info: SerializationInfo
    ) -> dict[str, Any]:
        # It has a default, but no arm is known without it, and it is part of a trial's identity.
        return {**({"kind": self.kind} if info.exclude_defaults else {}), **handler(self)}

    # What it asks for

    @property
    def needs(self) -> tuple[Capability, ...]:
        """What the model's layers must be able to do; checked before anything starts."""
        return ()

    @property
    def rank_rules(self) -> tuple[str, ...]:
        """The rules of `harness.arms.rank_rules` that it asks, by name."""
        return ()

    @property
    def costs_full(self) -> bool:
        """Whether the full training is part of what this way costs."""
        return self.needs_full

    def check(self, trial: Trial) -> None:
        """Refuse a model, task or training that it does not fit.

        Raises:
            ValueError: naming the field, `arm.state_dims asks block 0 for 9 of its 8 states`.
        """
        self.happens(trial.training)

    # Sizes

    @property
    def chooses_sizes(self) -> bool:
        """Whether it finds its sizes by itself, so that another arm can take them (`to`)."""
        return False

    @property
    def sizes_of(self) -> SizesOf | None:
        """The arm whose sizes it takes, if it takes another's."""
        return None

    def with_sizes(self, found: Sequence[Sequence[float]], blocks: int) -> Arm:
        """This arm at the sizes that trials of `sizes_of` ended with: one list per trial, of a
        number per block, the mean over the systems of a stack."""
        raise ValueError(f"{self.named} takes no other arm's sizes")

    def initial_dims(self, model: Any) -> list[int] | None:
        """States of each block of the model that is freshly made; None while only a plan can
        find out."""
        return list(model.state_dims)

    def trained_dims(self, model: Any) -> list[int] | None:
        """States of each block that steps are trained at, an upper bound; None as above."""
        return self.initial_dims(model)

    # Training

    def train_steps(self, steps: int) -> int:
        """How many optimizer steps this arm's own training takes, where `full` takes `steps`."""
        return steps

    @property
    def lr_factor(self) -> float:
        """What the learning rate is multiplied by."""
        return 1.0

    def batch_loss(self, loss: Loss, x: Tensor, teacher: nn.Module | None) -> Loss | None:
        """The loss of the batch x in place of the task's own `loss`; None for the task's.

        `teacher` is the full model, frozen and in evaluation mode, where `needs_full` is true and
        `from_full` is not.
        """
        return None

    def added_loss(self, model: nn.Module) -> Tensor | None:
        """A scalar whose gradient is added to that of the loss; the loss is reported without it."""
        return None

    def extra_flops(self, work: StepWork) -> float:
        """FLOPs of a training step beyond those of the model on its batch."""
        return 0.0

    # Truncation

    def events(self, steps: int) -> tuple[int, ...]:
        """The optimizer steps right after which `ranks` is asked; 0 means before training.

        Raises:
            ValueError: events that coincide or cannot be, in a run of `steps` steps.
        """
        return ()

    def happens(self, training: Training) -> tuple[int, ...]:
        """`events` as the training's protocol has them. Raises as `events`."""
        return self.events(training.steps)

    def ranks(self, systems: Sequence[Any], event: Event) -> list[Any]:
        """For each block the order to truncate to, from its `harness.reduction.Decomposition`.

        For a stack of systems, from its `StackDecomposition`, one order each, or one for all.
        """
        return [system.order for system in systems]

    @property
    def truncation_options(self) -> dict[str, Any]:
        """How a truncation is done: arguments of `harness.reduction.truncate`."""
        return {"moments": "reset"}

    @property
    def recorded_tau(self) -> float | None:
        """The energy discarded that its ranks follow from, for the record of a truncation."""
        return None

    def before_event(self, here: Boundary) -> bool:
        """Called where an event is due; False for an event that is not to be."""
        return True

    def before_truncation(self, here: Boundary) -> None:
        """Called before the model changes its size; its validation metric is known by then."""

    def after_event(self, here: Boundary) -> None:
        """Called after an event, whether the model has changed its size or not."""

    def after_evaluation(self, here: Boundary, value: float) -> None:
        """Called after an evaluation at which no event has changed the model."""

    # Sharing

    def event_keys(self, training: Training) -> EventKeys:
        """(step, what is done there), ascending: two arms whose keys agree up to a step train
        alike up to there. What a plug-in overrides above is in here by default.

        Raises:
            ValueError: as `events`.
        """
        how = self.model_dump_json(exclude=set(self.timing))
        keys = dict.fromkeys(self.happens(training), how)
        begins = self._differs_from(training)
        if begins is not None:
            keys[begins] = self.model_dump_json()
        return tuple(sorted(keys.items()))

    def _differs_from(self, training: Training) -> int | None:
        """The step from which it is another run than `full`, beside its events."""
        own, base = type(self), Arm
        other_steps = self.train_steps(training.steps) != training.steps
        other_loss = own.batch_loss is not base.batch_loss or own.added_loss is not base.added_loss
        if other_loss or other_steps or self.lr_factor != 1.0:
            return 0
        watches = own.after_evaluation is not base.after_evaluation
        return min(training.evaluate_every, training.steps) if watches else None

    @property
    def named(self) -> str:
        """`an in_training arm`."""
        return f"{self.with_article} arm"

    @property
    def with_article(self) -> str:
        """`an in_training`, `a full`."""
        return f"{'an' if self.kind[0] in 'aeiou' else 'a'} {self.kind}"
