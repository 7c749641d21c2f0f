"""Distillation: a small model from scratch that also learns from the full model's answers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from .base import Style
from .given import StepWork, Trial
from .sized import SizedArm

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .base import Loss


class DistillSpec(SizedArm):
    """The teacher is the selected model of the `full` trial of the same seed.

    Loss: alpha T^2 CE(softmax(teacher / T), softmax(student / T)) + (1 - alpha) CE(labels), with
    temperature T, as in the paper's code. The teacher's forward pass counts as training
    cost; the teacher's training is in the arm's total cost.
    """

    title: ClassVar[str] = "distilled from full size"
    table_place: ClassVar[int] = 30
    style: ClassVar[Style | None] = Style("#CC79A7", "v")
    needs_full: ClassVar[bool] = True

    kind: Literal["distill"] = "distill"
    temperature: Annotated[float, Field(gt=0.0)] = 2.0
    alpha: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5

    def check(self, trial: Trial) -> None:
        super().check(trial)
        if trial.task.info.kind == "regression":
            raise ValueError(f"distill needs classes; {trial.task.name} is a regression")

    def initial_dims(self, model: Any) -> list[int] | None:
        return self.given_dims(model)

    def batch_loss(self, loss: Loss, x: Tensor, teacher: nn.Module | None) -> Loss | None:
        import torch

        assert teacher is not None
        with torch.no_grad():
            answers = teacher(x)
        info: Any = teacher.info
        how = {"temperature": self.temperature, "alpha": self.alpha, "unscored": info.unscored}
        return partial(distillation_loss, loss, answers, **how)

    def extra_flops(self, work: StepWork) -> float:
        return work.batch * work.forward(work.model.state_dims)


def distillation_loss(
    loss: Loss,
    answers: Tensor,
    logits: Tensor,
    targets: Tensor,
    temperature: float,
    alpha: float,
    unscored: bool = False,
) -> Tensor:
    """alpha T^2 CE(softmax(answers / T), softmax(logits / T)) + (1 - alpha) loss(logits, targets).

    The soft term is a cross-entropy in nats, the mean over examples (and steps): the KL divergence
    up to a constant. `answers` are the teacher's logits, of the logits' shape. unscored:
    targets may be `UNSCORED`, and the mean is over the other steps.
    """
    soft = -((answers / temperature).softmax(-1) * (logits / temperature).log_softmax(-1)).sum(-1)
    if unscored:
        from harness.tasks.scored import scored_mean

        mean = scored_mean(soft, targets)
    else:
        mean = soft.mean()
    return alpha * temperature**2 * mean + (1 - alpha) * loss(logits, targets)
