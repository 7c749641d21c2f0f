"""The contract of an arm: one procedure for reaching a small model.

An arm is a frozen spec with a few hooks, each with a default. Other rooms call these hooks and
nothing else, so a new arm is one new file. An arm never changes a model directly: the training loop
calls its hooks and does the work, so that all arms are measured in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from pydantic import SerializationInfo, SerializerFunctionWrapHandler, model_serializer

from harness.models.layers.capabilities import Capability
from harness.models.selective import Selective
from harness.spec import Spec

from .given import Boundary, Event, StepWork, Training, Trial

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.reduction import Refit, Weighting

    Loss = Callable[[Tensor, Tensor], Tensor]  # of logits and targets

EventKeys = tuple[tuple[int, str], ...]


class Style(NamedTuple):
    """How figures draw an arm: a colour (`#rrggbb`) and a matplotlib marker."""

    colour: str
    marker: str


@dataclass(frozen=True)
class SizesOf:
    """Another arm whose final sizes this one takes: those of the same `seed`, block by block, or
    the `mean` over seeds and blocks."""

    arm: Arm
    over: Literal["seed", "mean"]


class Arm(Spec):
    """A procedure for reaching a model of some size. A subclass defines `kind` and its own fields,
    each with a default: `kind: Literal["mine"] = "mine"`."""

    kind: str

    # In tables and figures: its name, its position among rows of equal size, its style.
    title: ClassVar[str] = ""
    table_place: ClassVar[int] = 100
    style: ClassVar[Style | None] = None
    # The rows that others are measured against: `full` size, and `small` from scratch.
    baseline: ClassVar[Literal["full", "small"] | None] = None
    # Whether the report's sentences are about this arm.
    is_subject: ClassVar[bool] = False

    # Whether the `full` trial of the same seed must complete first, and whether this one starts
    # from its selected model; otherwise that model may be its teacher.
    needs_full: ClassVar[bool] = False
    from_full: ClassVar[bool] = False
    # Whether it runs as the `full` trial of a model of its sizes, with the same result.
    runs_as_full: ClassVar[bool] = False
    # Whether events act on the best model so far rather than on the latest.
    from_best: ClassVar[bool] = False
    # The fields that only say how small the model gets: rows that differ in them are one curve.
    sizing: ClassVar[frozenset[str]] = frozenset()
    # The fields that only say when something happens.
    timing: ClassVar[frozenset[str]] = frozenset()
    # The fields that specs written before they existed do not have: not written at their defaults,
    # so that what is stored of those specs stays as it was.
    unsaid: ClassVar[frozenset[str]] = frozenset()
    # The fields that a plan fills in if `sizes_of` names another arm.
    planned: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _says_its_kind(
        self, handler: SerializerFunctionWrapHandler, info: SerializationInfo
    ) -> dict[str, Any]:
        # Never left out, though it has a default: it identifies the arm and enters the trial id.
        found = {**({"kind": self.kind} if info.exclude_defaults else {}), **handler(self)}
        for name in self.unsaid:
            if getattr(self, name) == type(self).model_fields[name].default:
                found.pop(name, None)
        return found

    # Requirements

    @property
    def needs(self) -> tuple[Capability, ...]:
        """The capabilities that the model's layers must have; checked before anything starts. An
        arm with `ranks` of its own truncates, so it needs a system."""
        return (Capability.SYSTEM,) if type(self).ranks is not Arm.ranks else ()

    @property
    def needs_system_for(self) -> str | None:
        """What it needs a layer's own system for, in words that follow its name ("with method
        last", or none at all); None where what stands in for a selective layer's system will do."""
        return ""

    def lacks(self, model: Any) -> str | None:
        """Which capability the model's layers lack, as a sentence; None if none."""
        there, words = model.capabilities, None
        if Capability.SURROGATE in there:
            words = self.needs_system_for
            there = there | ({Capability.SYSTEM} if words is None else set())
        for one in self.needs:
            if one not in there:
                named = f"{self.kind} {words}" if words else self.kind
                return f"arm {named} needs a layer that {one.does}; {model.kind} {one.lacks}"
        return None

    @property
    def rank_rules(self) -> tuple[str, ...]:
        """The names of the rules of `harness.arms.rank_rules` that it uses."""
        return ()

    @property
    def costs_full(self) -> bool:
        """Whether the arm's total cost includes the full training."""
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
        """Whether it chooses its own sizes, so that another arm can take them (`to`)."""
        return False

    @property
    def sizes_of(self) -> SizesOf | None:
        """The arm whose sizes it takes, or None."""
        return None

    def with_sizes(self, found: Sequence[Sequence[float]], blocks: int) -> Arm:
        """This arm at the final sizes of the trials of `sizes_of`: one list per trial with a number
        per block, for a stack the mean over its systems."""
        raise ValueError(f"{self.named} takes no other arm's sizes")

    def initial_dims(self, model: Any) -> list[int] | None:
        """States of each block of the initial model; None while only a plan can find out."""
        return list(model.state_dims)

    def trained_dims(self, model: Any) -> list[int] | None:
        """States of each block during training, as an upper bound; None as above."""
        return self.initial_dims(model)

    # Training

    def train_steps(self, steps: int) -> int:
        """How many optimizer steps this arm's own training takes, if `full` takes `steps`."""
        return steps

    @property
    def lr_factor(self) -> float:
        """The factor of the learning rate."""
        return 1.0

    def batch_loss(self, loss: Loss, x: Tensor, teacher: nn.Module | None) -> Loss | None:
        """The loss of the batch x in place of the task's own `loss`; None for the task's.

        `teacher` is the full model, frozen and in evaluation mode, if `needs_full` is true and
        `from_full` is false.
        """
        return None

    def added_loss(self, model: nn.Module) -> Tensor | None:
        """A scalar whose gradient is added to that of the loss; the recorded loss leaves it out."""
        return None

    def extra_flops(self, work: StepWork) -> float:
        """FLOPs of a training step beyond those of the model on its batch."""
        return 0.0

    # Truncation

    def events(self, steps: int) -> tuple[int, ...]:
        """The optimizer steps right after which `ranks` is called; 0 means before training.

        Raises:
            ValueError: events coincide or are impossible in a run of `steps` steps.
        """
        return ()

    def happens(self, training: Training) -> tuple[int, ...]:
        """`events` under the training's protocol. Raises as `events` does."""
        return self.events(training.steps)

    def ranks(self, systems: Sequence[Any], event: Event) -> list[Any]:
        """For each block the order to truncate to, from its `harness.reduction.Decomposition`.

        For a stack of systems, from its `StackDecomposition`: one order each, or one for all.
        """
        return [system.order for system in systems]

    @property
    def truncation_options(self) -> dict[str, Any]:
        """How a truncation is done: arguments of `harness.reduction.truncate`."""
        return {"moments": "reset"}

    @property
    def weighting(self) -> Weighting | None:
        """What its truncations weigh states by; None for white noise, as published. `ranks` then
        gets decompositions under it."""
        return None

    @property
    def refitting(self) -> Refit | None:
        """What its truncations fit to the layers' outputs afterwards; None for nothing."""
        return None

    @property
    def calibration_size(self) -> int:
        """How many training examples its weighting and its refit are measured on."""
        return 0

    @property
    def held_out_size(self) -> int:
        """How many further ones the error is measured on."""
        return 0

    @property
    def balances_as(self) -> Literal["complex", "real"]:
        """Whether its truncations, and its `ranks`, take complex states with their conjugates."""
        return "complex"

    @property
    def scales_states(self) -> Literal["gramians", "equal"]:
        """How large its truncations leave balanced states; see `harness.reduction.scaling`."""
        return "gramians"

    @property
    def stand_in(self) -> Selective:
        """What stands in for the system of selective layers; see `harness.reduction.selective`."""
        return "mean_modes"

    def examples(self, model: Any) -> tuple[int, int]:
        """How many training examples its truncations of this model look at, and how many further
        ones their error is measured on."""
        return self.calibration_size, self.held_out_size

    @property
    def shares_orders(self) -> Literal["ragged", "common", "largest"]:
        """What its ranks give the systems of a stack, such as the channels of S4D: `ragged`, each
        its own; `largest`, the largest of these for all; `common`, that of the energy of all."""
        return "ragged"

    @property
    def recorded_tau(self) -> float | None:
        """The fraction of energy that its ranks discard, for the record of a truncation."""
        return None

    def before_event(self, here: Boundary) -> bool:
        """Called when an event is due; return False to skip it."""
        return True

    def before_truncation(self, here: Boundary) -> None:
        """Called before the model changes its size, with its validation metric known."""

    def after_event(self, here: Boundary) -> None:
        """Called after an event, whether or not the model has changed its size."""

    def after_evaluation(self, here: Boundary, value: float) -> None:
        """Called after an evaluation at which no event has changed the model."""

    # Forks

    def event_keys(self, training: Training) -> EventKeys:
        """(step, what happens there), ascending. Two arms whose keys agree up to a step train alike
        up to it. The default accounts for every hook that a plug-in overrides.

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
        """The step from which it differs from `full`, apart from its events."""
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
