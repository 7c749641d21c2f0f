"""A suite: comparisons that belong together, and the trials that they expand to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from harness.arms import Arm
from harness.models.specs import AnyModel, LRUSpec
from harness.spec import Spec
from harness.tools.inputs import cut, shown

from .bring import Plugins
from .explain import known
from .named import NamedSpec
from .names import checked_label
from .resources import SuiteResources
from .specs import AnyArm, AnyTask, TrainingSpec, TrialSpec

# Every trial has a folder of its own.
MOST_TRIALS, MOST_ROWS, MOST_SEEDS = 100_000, 10_000, 10_000

Seeds = Annotated[
    tuple[Annotated[int, Field(ge=0, lt=2**32)], ...],
    Field(strict=False, min_length=1, max_length=MOST_SEEDS),
]


def distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    """The seeds, if none repeats. Raises ValueError otherwise."""
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds repeat: {shown(list(seeds))}")
    return seeds


class Comparison(Spec):
    """Arms compared on one task, with one model and one training, over the same seeds.

    `arms` maps row labels to arms. `name` defaults to the task's; it distinguishes comparisons on
    the same task.
    """

    name: str = ""
    task: AnyTask
    model: AnyModel = LRUSpec()
    training: TrainingSpec = TrainingSpec()
    arms: dict[str, AnyArm] = Field(min_length=1, max_length=MOST_ROWS)
    seeds: Seeds = (0,)

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        return distinct(seeds)

    @field_validator("name")
    @classmethod
    def _name_is_a_label(cls, name: str) -> str:
        return checked_label(name, "comparison") if name else name

    @field_validator("arms")
    @classmethod
    def _rows_have_labels(cls, arms: dict[str, Any]) -> dict[str, Any]:
        for name in arms:
            checked_label(name, "label")
        return arms

    @model_validator(mode="after")
    def _arms_fit(self) -> Comparison:
        full = any(arm.baseline == "full" for arm in self.arms.values())
        for name, arm in self.arms.items():
            self.matched_label(name, arm)
            if arm.needs_full and not full:
                does = "starts" if arm.from_full else "learns"
                raise ValueError(f"arm {name!r} {does} from the full arm: add it")
            TrialSpec(task=self.task, model=self.model, training=self.training, arm=arm)
        return self

    @property
    def key(self) -> str:
        """The comparison's name, by default its task's."""
        return self.name or self.task.name

    def row_label(self, label: str) -> str:
        """The label in tables, where labels of the same task must not collide."""
        return label if self.key == self.task.name else f"{self.key}: {label}"

    def matched_label(self, label: str, arm: Arm) -> str | None:
        """The label of the arm whose size this arm takes, or None.

        Raises:
            ValueError: that arm is not in this comparison.
        """
        if arm.sizes_of is None:
            return None
        to = arm.sizes_of.arm
        for other, candidate in self.arms.items():
            if candidate == to:
                return other
        raise ValueError(f"arm {label!r} matches {to.named} that is not in the comparison")


class Role(Spec):
    """A trial's place in a suite: one row of a comparison (its key), one seed.

    `trial` may still await the sizes of the row that it matches.
    """

    label: str
    kind: str
    matches: str | None
    comparison: str
    task: str
    trial: TrialSpec


class Suite(NamedSpec):
    """A named list of comparisons. `plugins` are loaded first: FILE.py, relative to the suite's
    folder, or the name of an installed module. `resources` are those of each trial."""

    called: ClassVar[str] = "a suite"

    name: str
    description: str = ""
    plugins: Plugins = ()
    comparisons: Annotated[
        tuple[Comparison, ...], Field(strict=False, min_length=1, max_length=MOST_ROWS)
    ]
    resources: SuiteResources | None = None

    @model_serializer(mode="wrap")
    def _says_resources_if_any(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # So that the plans of suites that have none stay as they were before there were any.
        found: dict[str, Any] = handler(self)
        if self.resources is None:
            found.pop("resources", None)
        return found

    @field_validator("comparisons")
    @classmethod
    def _keys_differ(cls, comparisons: tuple[Comparison, ...]) -> tuple[Comparison, ...]:
        keys = [c.key for c in comparisons]
        if len(set(keys)) < len(keys):
            named = cut(", ".join(keys[:100]))
            raise ValueError(f"comparisons share a name ({named}): give each its own")
        return comparisons

    @model_validator(mode="after")
    def _can_be_kept(self) -> Suite:
        count = sum(len(c.arms) * len(c.seeds) for c in self.comparisons)
        if count > MOST_TRIALS:
            raise ValueError(f"the suite has {count} trials: at most {MOST_TRIALS}")
        return self

    def roles(self) -> Iterator[Role]:
        """Every trial of the suite, once per row that uses it, seeds innermost."""
        for c in self.comparisons:
            for label, arm in c.arms.items():
                matched = c.matched_label(label, arm)
                for seed in c.seeds:
                    yield Role(
                        label=c.row_label(label),
                        kind=arm.kind,
                        matches=c.row_label(matched) if matched else None,
                        comparison=c.key,
                        task=c.task.name,
                        trial=TrialSpec(
                            task=c.task, model=c.model, training=c.training, arm=arm, seed=seed
                        ),
                    )


known(Comparison, Suite)
