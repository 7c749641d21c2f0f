"""What a step minimises: the task's loss or the arm's version of it, plus the arm's terms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from harness.arms import StepWork
from harness.reduction import Order, UnusableSystem
from harness.suite.specs import TrialSpec
from harness.tasks.base import TaskInfo
from harness.training.costs.flops import forward_flops, step_flops
from harness.training.host.faults import Diverged
from harness.training.step.graphs import Graphed, plain, refusal
from harness.training.step.loss import loss_of, published_cross_entropy

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Objective:
    """The loss of a batch under the trial's arm and protocol; `teacher` is the model to learn from
    besides the labels, if the arm has one."""

    def __init__(
        self,
        spec: TrialSpec,
        info: TaskInfo,
        device: torch.device,
        teacher: nn.Module | None = None,
    ):
        self.arm, self.model, self.info = spec.arm, spec.model, info
        self.loss = loss_under(spec, info)
        self.step = Graphed() if refusal(spec, info, device) is None else plain
        self.teacher = None if teacher is None else teacher.eval().requires_grad_(False)

    def backward(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Leave the gradients in the parameters; return the loss, without waiting for the device.

        The arm's terms are in the gradients but not in the loss.

        Raises:
            Diverged: the arm's term finds no usable system.
        """
        own = self.arm.batch_loss(self.loss, x, self.teacher)
        # A graph captures one function; an arm's own loss may depend on this batch.
        loss = self.step(model, self.loss, x, y) if own is None else plain(model, own, x, y)
        try:
            added = self.arm.added_loss(model)
        except UnusableSystem as error:
            raise Diverged(f"the system is broken: {error}") from error
        if added is not None:
            added.backward()  # adds to the gradients of the loss
        return loss

    def step_flops(self, state_dims: Sequence[Order], batch: int, gains: int = 0) -> int:
        """FLOPs of a training step at these sizes, with `gains` static gains."""
        forward = partial(forward_flops, self.model, self.info)
        work = StepWork(self.model, state_dims, batch, forward)
        own = step_flops(self.model, self.info, state_dims, batch, gains)
        return int(own) + int(self.arm.extra_flops(work))


def loss_under(spec: TrialSpec, info: TaskInfo) -> Loss:
    """The task's loss under the trial's protocol."""
    if spec.protocol.loss == "log_p_plus_epsilon" and info.kind != "regression":
        return partial(published_cross_entropy, unscored=info.unscored)
    return partial(loss_of, info.kind)
