"""A study: what it searches, how candidates are scored, and how much it may cost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from harness.arms import Arm
from harness.spec import Spec
from harness.suite import TrialSpec
from harness.suite.bring import Plugins
from harness.suite.explain import explain, known
from harness.suite.named import NamedSpec
from harness.suite.specs import deciding
from harness.suite.suite import MOST_ROWS, MOST_TRIALS, Seeds, distinct
from harness.tasks.metrics import METRICS
from harness.tools.inputs import shown

from .space import TIMING, Floats, Ints, Setting, Space, grid_start

Goal = Literal["pareto", "constrained"]
Natural = Annotated[int, Field(ge=1, le=MOST_ROWS)]

# Everything that decides suggestions and scores. The budget is not in it, so it may grow.
DECIDING = (
    "space", "seeds", "goal", "margin", "minimise_state_dim", "sampler", "sampler_seed", "startup",
    "enqueue", "grid", "batch", "first_seeds",
)  # fmt: skip


class Budget(Spec):
    """What the search may spend. The first limit reached ends it; give at least one.

    FLOPs and GPU-hours are those actually spent, so a step that several trials share counts once.
    """

    candidates: Annotated[int, Field(le=MOST_ROWS)] | None = None
    flops: float | None = None
    gpu_hours: float | None = None

    @model_validator(mode="after")
    def _allows_something(self) -> Self:
        given = self.model_dump(exclude_none=True)
        if not given:
            raise ValueError(f"give at least one of {', '.join(Budget.model_fields)}")
        if self.candidates is not None and self.candidates < 1:
            raise ValueError(f"{self.candidates} candidates are fewer than one candidate")
        for name, value in given.items():
            if value <= 0:
                raise ValueError(f"{name} must be above 0, not {value}")
        return self


class Study(NamedSpec):
    """A search over the timing of truncations.

    Each candidate is `base` with another in-training arm (the base's own seed is not used). It runs
    on all `seeds`, and the finalists run again on `confirm_seeds`. `constrained` looks for the
    least training FLOPs with a validation metric within `margin` (in its own unit) of the full
    model's; `pareto` for a better metric and fewer FLOPs, and with `minimise_state_dim` for fewer
    states. All events lie on `grid` points over the run. The first candidates are the settings
    in `enqueue`, then `startup` points of a Sobol sequence, then what the `sampler` suggests,
    `batch` at a time. In `constrained`, weak candidates are stopped after `first_seeds` seeds.
    """

    called: ClassVar[str] = "a study"

    name: str
    description: str = ""
    base: TrialSpec
    space: Space
    seeds: Seeds
    confirm_seeds: Seeds
    goal: Goal
    margin: float | None = None
    minimise_state_dim: bool = False
    sampler: Literal["tpe", "nsga2"] = "tpe"
    sampler_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    startup: Annotated[int, Field(ge=0, le=MOST_ROWS)] = 8
    enqueue: Annotated[tuple[Setting, ...], Field(strict=False, max_length=MOST_ROWS)] = ()
    grid: Annotated[int, Field(ge=2, le=10_000)] = 50
    batch: Natural = 4
    first_seeds: Natural = 1
    finalists: Natural = 3
    budget: Budget
    plugins: Plugins = ()

    @field_validator("base")
    @classmethod
    def _truncates(cls, base: TrialSpec) -> TrialSpec:
        if not set(TIMING) <= base.arm.model_dump().keys():
            raise ValueError(f"a study's base trial is in_training, not {base.arm.kind}")
        if base.training.protocol != "strict":
            raise ValueError(
                f"a study searches windows, which protocol {base.training.protocol} rounds to "
                "evaluations: its base trial must be strict"
            )
        return base

    @field_validator("seeds", "confirm_seeds")
    @classmethod
    def _seeds_differ(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(distinct(seeds)) < 2:
            raise ValueError(f"a study compares over at least two seeds, not {list(seeds)}")
        return seeds

    @model_validator(mode="after")
    def _fits(self) -> Self:
        both = sorted(set(self.seeds) & set(self.confirm_seeds))
        if both:
            raise ValueError(
                f"confirm_seeds must be seeds that the search never saw, not {shown(both)}"
            )
        if self.first_seeds > len(self.seeds):
            raise ValueError(f"first_seeds {self.first_seeds} is more than {len(self.seeds)} seeds")
        self._goal_fits()
        self._grid_fits()
        self._options_fit()
        self._enqueued_fit()
        self._budget_fits()
        return self

    def _goal_fits(self) -> None:
        if self.goal == "pareto":
            if self.margin is not None:
                raise ValueError("margin is for goal constrained; pareto has none")
            return
        if self.minimise_state_dim:
            raise ValueError("minimise_state_dim is for goal pareto")
        if self.margin is None:
            raise ValueError("goal constrained needs a margin")
        if self.margin < 0:
            raise ValueError(f"margin must not be negative (got {self.margin})")
        task = self.base.task
        size = task.validation_size
        if task.metric == "accuracy" and size is not None and self.margin < 2 / size:
            raise ValueError(
                f"margin {self.margin} is finer than two of the {size} validation examples of "
                f"{task.name}, {2 / size:.3g}"
            )

    def _grid_fits(self) -> None:
        steps, points = self.base.training.steps, self.space.longest(self.grid)
        if self.grid > steps:
            raise ValueError(f"grid {self.grid} has more points than the run has steps, {steps}")
        if self.space.count.high > points:
            raise ValueError(
                f"space.count.high {self.space.count.high} is more than the {points} grid points "
                f"in the longest window ({self.grid} over the run)"
            )

    def _options_fit(self) -> None:
        base = self.base.arm
        for name, values in self.space.options.items():
            for value in values:
                try:
                    type(base).model_validate({**base.model_dump(), name: value})
                except ValidationError as error:
                    raise ValueError(f"space.options.{name}: {explain(error)}") from None

    def _enqueued_fit(self) -> None:
        for i, setting in enumerate(self.enqueue):
            try:
                self.arm_of(setting)
                self.space.params(setting, self.base.arm)
            except ValidationError as error:
                raise ValueError(f"enqueue.{i}: {explain(error)}") from None
            except ValueError as error:
                raise ValueError(f"enqueue.{i}: {error}") from None
            points = int((setting.end - setting.start) * self.grid + 1e-9)
            if setting.count > points:
                raise ValueError(
                    f"enqueue.{i}: count {setting.count} is more than the {points} grid points "
                    f"in its window ({self.grid} over the run)"
                )

    def _budget_fits(self) -> None:
        if self.budget.candidates is not None and self.budget.candidates % self.batch:
            raise ValueError(
                f"budget.candidates {self.budget.candidates} is no whole number of batches of "
                f"{self.batch}"
            )
        candidates = self.budget.candidates or self.batch
        if (1 + candidates) * len(self.seeds) > MOST_TRIALS:
            raise ValueError(
                f"{candidates} candidates on {len(self.seeds)} seeds, with the full model, are "
                f"{(1 + candidates) * len(self.seeds)} trials: at most {MOST_TRIALS}"
            )
        if self.budget.flops is None:
            return
        # Imported here: this module is loaded with every suite, and an estimate needs the store.
        from harness.planning.estimate import estimated_flops

        one = estimated_flops(self.base)
        least = one * len(self.seeds) * (1 + self.batch)
        most = one * len(self.seeds) * (1 + MOST_ROWS)
        if self.budget.candidates is None and self.budget.flops > most:
            raise ValueError(
                f"budget.flops {self.budget.flops:.3g} is enough for more than {MOST_ROWS} "
                "candidates: give a smaller one, or candidates as well"
            )
        if self.budget.flops < least:
            raise ValueError(
                f"budget.flops {self.budget.flops:.3g} is less than the full model and one batch "
                f"of {self.batch} candidates may need, {len(self.seeds)} seeds of {one:.3g} FLOPs "
                f"for each = {least:.3g}"
            )

    @property
    def objectives(self) -> dict[str, Literal["minimize", "maximize"]]:
        """The objectives and their directions, in the order in which values are told."""
        if self.goal == "constrained":
            return {"train_flops": "minimize"}
        metric = self.base.task.metric
        better: Literal["minimize", "maximize"]
        better = "maximize" if METRICS[metric].higher_is_better else "minimize"
        states: dict[str, Literal["minimize", "maximize"]]
        states = {"state_dim_mean": "minimize"} if self.minimise_state_dim else {}
        return {f"val_{metric}": better, "train_flops": "minimize", **states}

    def setting(self, params: Mapping[str, Any]) -> Setting:
        """The setting on the grid for values of the knobs."""
        return self.space.setting(params, self.grid)

    def arm(self, params: Mapping[str, Any]) -> Arm:
        """A candidate's arm: the base's arm with the setting for these values of the knobs."""
        return self.arm_of(self.setting(params))

    def arm_of(self, setting: Setting) -> Arm:
        """The base's arm with exactly this setting, on the grid or not."""
        base = self.base.arm
        arm = type(base).model_validate({**base.model_dump(), **setting.fields()})
        arm.events(self.base.training.steps)
        return arm

    def enqueued(self) -> list[dict[str, Any]]:
        """The settings in `enqueue` as values of the knobs. They may lie outside the space."""
        return [self.space.params(setting, self.base.arm) for setting in self.enqueue]

    def first_event_points(self) -> tuple[int, ...]:
        """The grid points, ascending, at which the first event of any candidate can fall."""
        points = self.space.first_events(self.grid)
        for params in self.enqueued():
            start, gap, _ = self.space.events(params, self.grid)
            points.add(start + gap)
        return tuple(sorted(points))

    def first_event_steps(self) -> tuple[int, ...]:
        """The optimizer steps, ascending, at which the first event of any candidate can fall.

        A grid point between two steps stands for both, since the last bits of an arm's fractions
        decide which one it takes.
        """
        steps = self.base.training.steps
        at = [steps * point / self.grid for point in self.first_event_points()]
        slack = 2e-9 * steps + 1e-9
        return tuple(sorted({round(x + d) for x in at for d in (-slack, slack)}))

    def identity(self) -> str:
        """Canonical JSON of everything that decides suggestions and scores, without defaults."""
        base = deciding(self.base, "seed")
        base["arm"] = {k: v for k, v in base["arm"].items() if k not in TIMING}
        content = self.model_dump(mode="json", exclude_defaults=True, include=set(DECIDING))
        return json.dumps(
            {**content, "base": base}, sort_keys=True, separators=(",", ":"), allow_nan=False
        )


known(Study, Space, Floats, Ints, Setting, Budget)

__all__ = ["Budget", "Floats", "Ints", "Setting", "Space", "Study", "grid_start"]
