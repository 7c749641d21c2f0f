"""What a trial is: its typed specs, their validation, and the identity of their content."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from harness.arms import (
    ARM_UNION,
    Arm,
    DistillSpec,
    FullSpec,
    HankelRegularizedSpec,
    InTrainingSpec,
    PostHocSpec,
    SmallSpec,
)
from harness.models.specs import AnyModel, LRUSpec, with_dims
from harness.protocols import PROTOCOLS, Name, Protocol
from harness.spec import MOST_STEPS, Spec
from harness.tasks.specs import TASK_UNION

MOST_EVALUATIONS = 1_000_000  # of one trial: each is a row of its curve


class TrainingSpec(Spec):
    """How every arm is trained, and by which protocol it is selected and scored.

    `warmup` is a fraction of the steps.
    """

    steps: Annotated[int, Field(ge=1, le=MOST_STEPS)] = 600
    batch_size: Annotated[int, Field(ge=1, le=2**20)] = 50
    lr: Annotated[float, Field(gt=0.0)] = 0.004
    ssm_lr_factor: Annotated[float, Field(gt=0.0)] = 0.25
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.05
    schedule: Literal["warmup_cosine", "constant"] = "warmup_cosine"
    warmup: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    evaluate_every: Annotated[int, Field(ge=1, le=MOST_STEPS)] = 100
    protocol: Name = "strict"

    @model_validator(mode="after")
    def _evaluations_can_be_kept(self) -> TrainingSpec:
        count = self.steps // self.evaluate_every
        if count > MOST_EVALUATIONS:
            raise ValueError(
                f"evaluate_every {self.evaluate_every} makes {count} evaluations in {self.steps} "
                f"steps: at most {MOST_EVALUATIONS} can be kept"
            )
        return self


if TYPE_CHECKING:  # which cannot read a union that grows: the bases stand for plug-ins
    from harness.tasks import specs as t

    AnyTask = (
        t.AanSpec | t.ArraysSpec | t.AudioFolderSpec | t.CopyingSpec | t.DigitsSpec
        | t.Enwik8Spec | t.FashionSpec | t.ImdbSpec | t.InductionSpec | t.ListopsSpec
        | t.MqarSpec | t.PathfinderSpec | t.PathfinderGeneratedSpec | t.PathxSpec
        | t.PsmnistSpec | t.PylibSpec | t.Sc10Spec | t.ScifarSpec | t.SelectiveCopyingSpec
        | t.SmnistSpec | t.SpeechCommandsSpec | t.Text8Spec | t.TextFileSpec
        | t.VowelsSpec | t.Wikitext103Spec
        | t.TaskSpecBase
    )  # fmt: skip
    AnyArm = (
        FullSpec
        | InTrainingSpec
        | PostHocSpec
        | SmallSpec
        | DistillSpec
        | HankelRegularizedSpec
        | Arm
    )
else:
    AnyTask = Annotated[Any, TASK_UNION]
    AnyArm = Annotated[Any, ARM_UNION]


def TaskSpec(**fields: Any) -> Any:
    """The validated spec of the task called `name`."""
    return TASK_UNION.validate(fields)


class TrialSpec(Spec):
    """One task x model x training x arm x seed."""

    spec_version: Literal[1] = 1
    task: AnyTask
    model: AnyModel = LRUSpec()
    training: TrainingSpec = TrainingSpec()
    arm: AnyArm
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @model_validator(mode="after")
    def _batch_fits(self) -> TrialSpec:
        size, batch = self.task.train_size, self.training.batch_size
        if size is not None and batch > size:
            raise ValueError(
                f"training.batch_size {batch} is larger than the training split of "
                f"{self.task.name}, {size} examples"
            )
        return self

    @model_validator(mode="after")
    def _direction_fits(self) -> TrialSpec:
        if not self.model.causal and self.task.info.kind == "next_token":
            raise ValueError(
                f"task {self.task.name} predicts the next token, which a bidirectional model reads"
            )
        return self

    @model_validator(mode="after")
    def _arm_fits(self) -> TrialSpec:
        lacking = self.arm.lacks(self.model)
        if lacking is not None:
            raise ValueError(lacking)
        self.arm.check(self)
        return self

    @property
    def protocol(self) -> Protocol:
        """How this trial is selected and scored."""
        return PROTOCOLS[self.training.protocol]

    @property
    def data(self) -> Any:
        """The task's spec as this trial sees it: under some protocols its seed draws the split."""
        return self.protocol.split(self.task, self.seed)

    @property
    def built(self) -> Any:
        """The spec of the initial model, as the protocol builds it."""
        model = self.protocol.model(self.model)
        dims = self.arm.initial_dims(model)
        if dims is None:
            raise ValueError(f"{self.arm.named} that matches needs the plan to resolve its sizes")
        return model if tuple(dims) == model.state_dims else with_dims(model, dims)

    def resolved(self) -> TrialSpec:
        """The trial that actually runs: a `small` arm with sizes is a `full` trial of those sizes.

        Raises:
            ValueError: the arm matches another's sizes, which only a plan knows.
        """
        arm = self.arm
        if arm.sizes_of is not None:
            raise ValueError(f"arm {arm.kind} matches another arm: only a suite's plan can size it")
        dims = arm.initial_dims(self.model)
        if not arm.runs_as_full or dims is None:
            return self
        return self.model_copy(update={"model": with_dims(self.model, dims), "arm": FullSpec()})

    def source(self) -> TrialSpec | None:
        """The `full` trial of the same seed that this one starts from or learns from, if any."""
        if not self.arm.needs_full:
            return None
        return self.model_copy(update={"arm": FullSpec()})

    @property
    def trial_id(self) -> str:
        """16 hex digits of the SHA-256 of the canonical JSON without default-valued fields."""
        return hashlib.sha256(canonical(self).encode()).hexdigest()[:16]


def deciding(spec: TrialSpec, *but: str) -> dict[str, Any]:
    """The fields that decide a trial, as JSON values: without defaults, without fields outside its
    identity or named in `but`."""
    left_out: dict[str, Any] = dict.fromkeys(but, True)
    if spec.task.not_identity:
        left_out["task"] = dict(spec.task.not_identity)
    return spec.model_dump(mode="json", exclude_defaults=True, exclude=left_out)


def canonical(spec: TrialSpec) -> str:
    """JSON with sorted keys and no spaces, without fields that equal their defaults.

    Raises:
        ValidationError: a copy with invalid fields or fields of foreign classes.
    """
    content = deciding(TrialSpec.model_validate(spec))
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


__all__ = [
    "TaskSpec",
    "TrainingSpec",
    "TrialSpec",
    "canonical",
]
