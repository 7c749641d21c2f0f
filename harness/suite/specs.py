"""What a trial is: the typed specs, how they validate, and the identity of their content."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from harness.arms import ARM_UNION, DistillSpec, FullSpec, PostHocSpec, SmallSpec
from harness.models.specs import AnyModel, LRUSpec, ModelSpec, with_dims
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


if TYPE_CHECKING:
    AnyTask = Any
    AnyArm = Any
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
    def _arm_fits(self) -> TrialSpec:
        arm, model = self.arm, self.model
        lacking = next((one for one in arm.needs if one not in model.capabilities), None)
        if lacking is not None:
            raise ValueError(
                f"arm {arm.kind} needs a layer that {lacking.does}; {model.kind} {lacking.lacks}"
            )
        arm.happens(self.training)
        dims = getattr(arm, "state_dims", None)
        if dims is not None and len(dims) not in (1, model.blocks):
            raise ValueError(f"arm.state_dims lists {len(dims)} for {model.blocks} blocks")
        if dims is not None and arm.shrinks:
            for i, (r, n) in enumerate(zip(arm.dims(model.blocks), model.state_dims, strict=True)):
                if r > n:
                    raise ValueError(f"arm.state_dims asks block {i} for {r} of its {n} states")
        budget, size = getattr(arm, "mean_dim", None), sum(model.state_dims) / model.blocks
        if budget is not None and budget > size:
            raise ValueError(
                f"arm.mean_dim {budget:g} is larger than the model, {size:g} states a block"
            )
        final = getattr(arm, "final", None)
        if final is not None and final > min(model.state_dims):
            raise ValueError(
                f"arm.final {final} is larger than a block of the model, {min(model.state_dims)}"
            )
        if isinstance(arm, DistillSpec) and self.task.info.kind == "regression":
            raise ValueError(f"distill needs classes; {self.task.name} is a regression")
        return self

    @property
    def protocol(self) -> Protocol:
        """How this trial is selected and scored."""
        return PROTOCOLS[self.training.protocol]

    @property
    def data(self) -> Any:
        """The task's spec as this trial sees it: the run's seed draws some protocols' splits."""
        return self.protocol.split(self.task, self.seed)

    @property
    def built(self) -> Any:
        """The spec of the model that is freshly made, as the protocol builds it."""
        model = self.protocol.model(self.model)
        if isinstance(self.arm, DistillSpec):
            return with_dims(model, self.arm.dims(model.blocks))
        return model

    def resolved(self) -> TrialSpec:
        """The trial that runs: a `small` arm with sizes is a `full` trial of those sizes.

        Raises:
            ValueError: the arm matches another's sizes, which only a plan can know.
        """
        arm = self.arm
        if getattr(arm, "match", None) is not None:
            raise ValueError(f"arm {arm.kind} matches another arm: only a suite's plan can size it")
        if not isinstance(arm, SmallSpec):
            return self
        model = with_dims(self.model, arm.dims(self.model.blocks))
        return self.model_copy(update={"model": model, "arm": FullSpec(kind="full")})

    def source(self) -> TrialSpec | None:
        """The `full` trial of the same seed that this one starts from or learns from, if any."""
        if not self.arm.needs_full:
            return None
        return self.model_copy(update={"arm": FullSpec(kind="full")})

    @property
    def trial_id(self) -> str:
        """16 hex digits of the SHA-256 of the canonical JSON without default-valued fields."""
        return hashlib.sha256(canonical(self).encode()).hexdigest()[:16]


def deciding(spec: TrialSpec, *but: str) -> dict[str, Any]:
    """What decides a trial, as JSON values: no field that equals its default or is no part of its
    identity, and none that is named in `but`."""
    left_out: dict[str, Any] = dict.fromkeys(but, True)
    if spec.task.not_identity:
        left_out["task"] = dict(spec.task.not_identity)
    return spec.model_dump(mode="json", exclude_defaults=True, exclude=left_out)


def canonical(spec: TrialSpec) -> str:
    """Sorted keys, no spaces, and every field equal to its default left out.

    Raises:
        ValidationError: a copy with fields that do not validate, or of classes that are not ours.
    """
    content = deciding(TrialSpec.model_validate(spec))
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


__all__ = [
    "FullSpec",
    "LRUSpec",
    "ModelSpec",
    "PostHocSpec",
    "TaskSpec",
    "TrainingSpec",
    "TrialSpec",
    "canonical",
    "with_dims",
]
