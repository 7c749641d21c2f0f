"""What a step minimises: the task's loss, and what an arm adds to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from harness.arms import DistillSpec, HankelRegularizedSpec
from harness.reduction import Order, UnusableSystem, hankel_nuclear_norm, regularizer_flops
from harness.suite.specs import TrialSpec
from harness.tasks.base import TaskInfo

from .faults import Diverged
from .flops import forward_flops, step_flops
from .graphs import Graphed, plain, refusal
from .loss import distillation_loss, loss_of, published_cross_entropy

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Objective:
    """The task's loss of a batch."""

    def __init__(self, spec: TrialSpec, info: TaskInfo, device: torch.device):
        self.spec, self.info = spec, info
        self.loss = loss_under(spec, info)
        self.run = Graphed() if refusal(spec, info, device) is None else plain

    def backward(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Leave the gradients in the parameters; the loss, which nothing has waited for."""
        return self.run(model, self.loss, x, y)

    def step_flops(self, state_dims: Sequence[Order], batch: int, gains: int = 0) -> int:
        """FLOPs of a training step at these sizes, with so many static gains."""
        return int(step_flops(self.spec.model, self.info, state_dims, batch, gains))


class Distillation(Objective):
    """The loss of a student: labels, and the teacher's answers in evaluation mode."""

    def __init__(self, spec: TrialSpec, info: TaskInfo, device: torch.device, teacher: nn.Module):
        super().__init__(spec, info, device)
        self.teacher = teacher.eval().requires_grad_(False)

    def backward(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            answers = self.teacher(x)
        arm = self.spec.arm
        both = partial(distillation_loss, self.loss, answers, arm.temperature, arm.alpha)
        return plain(model, both, x, y)

    def step_flops(self, state_dims: Sequence[Order], batch: int, gains: int = 0) -> int:
        teacher = forward_flops(self.spec.model, self.info, self.spec.model.state_dims)
        return super().step_flops(state_dims, batch, gains) + int(batch * teacher)


class Regularized(Objective):
    """The task's loss plus a Hankel nuclear norm; what is reported is the task's."""

    def backward(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        loss = super().backward(model, x, y)
        arm = self.spec.arm
        try:
            penalty = hankel_nuclear_norm(model, method=arm.penalty)
        except UnusableSystem as error:
            raise Diverged(f"the system is broken: {error}") from error
        (arm.weight * penalty).backward()  # adds to the gradients of the loss
        return loss

    def step_flops(self, state_dims: Sequence[Order], batch: int, gains: int = 0) -> int:
        width, penalty = self.spec.model.width, self.spec.arm.penalty
        more = sum(regularizer_flops(n, width, penalty) for n in state_dims)
        return super().step_flops(state_dims, batch, gains) + int(more)


def loss_under(spec: TrialSpec, info: TaskInfo) -> Loss:
    """The task's loss by the trial's protocol."""
    if spec.protocol.loss == "log_p_plus_epsilon" and info.kind != "regression":
        return published_cross_entropy
    return partial(loss_of, info.kind)


def objective_of(
    spec: TrialSpec, info: TaskInfo, device: torch.device, teacher: nn.Module | None
) -> Objective:
    """The objective of a trial's arm."""
    if isinstance(spec.arm, DistillSpec):
        assert teacher is not None
        return Distillation(spec, info, device, teacher)
    if isinstance(spec.arm, HankelRegularizedSpec):
        return Regularized(spec, info, device)
    return Objective(spec, info, device)
