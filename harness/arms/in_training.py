"""In-training truncation (arXiv 2510.02823): balanced truncation inside an early window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from harness.models.layers.capabilities import Capability
from harness.protocols import PROTOCOLS
from harness.spec import StateDim, load_installed

from .base import EventKeys, Style
from .given import Boundary, Event, Training, Trial
from .rank_rules import RULES, RankRule
from .weighted import WeightedArm

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class InTrainingSpec(WeightedArm):
    """Truncate `count` times between `start` and `end`, fractions of the training steps.

    `rule` says to what size. `energy` (the paper's): the energy rank of `tau`, the fraction of
    Hankel energy discarded at each event. `fixed`: `fraction` of the present states is removed each
    time, or, with `final`, equal steps from the present size to that one. `pragmatic`: as `fixed`,
    until validation at an event is more than `tolerance` worse than before the last one; then it
    rolls back to the model before that one (weights, running statistics, optimizer moments), and
    no event follows. `loss`: the smallest sizes at which each event raises the loss on held-out
    training examples, drawn anew by seed and step, by at most `max_loss` in the loss's units (a
    quarter as many as `calibration` says; see harness/reduction/weighting/README.md). Further
    rules can be registered (`harness.arms.rank_rules`).

    `keep`: the `largest` balanced states; for ablation the `smallest`, or `random` modes of the
    unbalanced system, as in the paper. `moments` says what happens to the optimizer's. `gate`
    leaves a block alone unless its rank falls below (1 - gate) of its state dimension (the
    published code: 0.05).
    """

    title: ClassVar[str] = "in-training truncation"
    table_place: ClassVar[int] = 10
    style: ClassVar[Style | None] = Style("#0072B2", "o")
    is_subject: ClassVar[bool] = True
    sizing: ClassVar[frozenset[str]] = frozenset({"tau", "final", "fraction", "max_loss"})
    timing: ClassVar[frozenset[str]] = frozenset({"start", "end", "count"})
    unsaid: ClassVar[frozenset[str]] = WeightedArm.unsaid | {"max_loss"}

    kind: Literal["in_training"] = "in_training"
    tau: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    start: Fraction = 0.0
    end: Fraction = 0.1
    count: Annotated[int, Field(ge=1, le=100_000)] = 4
    gate: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    keep: Literal["largest", "smallest", "random"] = "largest"
    moments: Literal["transport", "slice", "reset"] = "transport"
    rule: str = "energy"
    fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    final: StateDim | None = None
    tolerance: Annotated[float, Field(ge=0.0)] = 0.02
    max_loss: Annotated[float, Field(ge=0.0)] | None = None

    @field_validator("rule")
    @classmethod
    def _rule_is_there(cls, rule: str) -> str:
        if rule not in RULES:
            faults = load_installed()
        if rule not in RULES:
            raise ValueError("; ".join([f"no such rule; there are {', '.join(RULES)}", *faults]))
        return rule

    @model_validator(mode="after")
    def _rule_has_its_knobs(self) -> InTrainingSpec:
        if self.final is not None and not self._rank_rule.takes_final:
            takers = " and ".join(name for name, rule in RULES.items() if rule.takes_final)
            raise ValueError(f"`final` belongs to rule {takers}, not to {self.rule}")
        self._check_max_loss()
        self.check_method("balanced" if self.keep == "largest" else f"keep {self.keep}")
        return self

    def _check_max_loss(self) -> None:
        if self._rank_rule.takes_max_loss and self.max_loss is None:
            raise ValueError(f"rule {self.rule} needs `max_loss`, in the units of the loss")
        if self.max_loss is None:
            return
        if not self._rank_rule.takes_max_loss:
            takers = " and ".join(name for name, rule in RULES.items() if rule.takes_max_loss)
            raise ValueError(f"`max_loss` belongs to rule {takers}, not to {self.rule}")
        # Other sizes, or other states, would not be those that were measured.
        if self.gate:
            raise ValueError("`max_loss` leaves no room for a `gate`")
        if self.keep != "largest":
            raise ValueError(f"`max_loss` goes with the largest states, not with keep {self.keep}")

    @property
    def _rank_rule(self) -> RankRule:
        return RULES[self.rule]

    @property
    def calibration_size(self) -> int:
        return self.calibration if self.max_loss is not None else super().calibration_size

    @property
    def needs(self) -> tuple[Capability, ...]:
        transports = self.moments == "transport"
        return (Capability.SYSTEM, *([Capability.MOMENTS] if transports else []), *self.gain_needs)

    @property
    def rank_rules(self) -> tuple[str, ...]:
        return (self.rule,)

    @property
    def chooses_sizes(self) -> bool:
        return True

    def check(self, trial: Trial) -> None:
        super().check(trial)
        smallest = min(trial.model.state_dims)
        if self.final is not None and self.final > smallest:
            raise ValueError(
                f"arm.final {self.final} is larger than a block of the model, {smallest}"
            )

    def events(self, steps: int) -> tuple[int, ...]:
        self._check_window()
        span = self.end - self.start
        # One more event than there are steps must coincide already.
        first = range(1, min(self.count, steps + 1) + 1)
        at = [round(steps * (self.start + span * k / self.count)) for k in first]
        if at[0] == 0 or len(set(at)) < len(at):
            shown = ", ".join(map(str, at[:4])) + (", ..." if len(at) > 4 else "")
            raise ValueError(
                f"`count` {self.count} truncations from `start` {self.start} to `end` {self.end} "
                f"of {steps} steps fall on steps {shown}: they must be different and not 0"
            )
        return tuple(at)

    def happens(self, training: Training) -> tuple[int, ...]:
        rule = PROTOCOLS[training.protocol].truncates
        if rule == "window":
            return self.events(training.steps)
        self._check_window()
        steps, every = training.steps, training.evaluate_every
        first, last = round(steps * self.start), round(steps * self.end)
        evaluations = range(every, steps + 1, every)
        if rule == "evaluations":
            at = tuple(step for step in evaluations if first < step <= last + 1)
        else:
            interval = max(1, round((last - first) / self.count))
            at = tuple(s for s in evaluations if s % interval == 0 and first < s <= last)
        if not at:
            raise ValueError(
                f"protocol {training.protocol} truncates at evaluations only, and none of those "
                f"every {every} steps falls into the window from step {first} to {last}"
                + (f" on a multiple of {interval}" if rule == "coincided" else "")
                + ": choose training.evaluate_every, or the window, so that one does"
            )
        return at

    def event_keys(self, training: Training) -> EventKeys:
        keys = super().event_keys(training)
        if not self._rank_rule.counts_events(self):
            return keys
        return tuple((at, f"{how} {k} of {len(keys)}") for k, (at, how) in enumerate(keys))

    def ranks(self, systems: Sequence[Any], event: Event) -> list[Any]:
        from harness.models.orders import total

        ranks, now = self._rank_rule.ranks(self, systems, event), [one.order for one in systems]
        both = zip(ranks, now, strict=True)
        return [r if total(r) < (1 - self.gate) * total(n) else n for r, n in both]

    @property
    def truncation_options(self) -> dict[str, Any]:
        return {"moments": self.moments, "keep": self.keep}

    @property
    def recorded_tau(self) -> float | None:
        return self.tau if self._rank_rule.takes_tau else None

    def before_event(self, here: Boundary) -> bool:
        return self._rank_rule.before_event(self, here)

    def before_truncation(self, here: Boundary) -> None:
        self._rank_rule.before_truncation(self, here)

    def _check_window(self) -> None:
        if self.end < self.start:
            raise ValueError(f"the window ends at {self.end}, before its start at {self.start}")
