"""What stays fixed while a trial's state changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from harness.suite.specs import TrialSpec
from harness.tasks.base import Task

from .costs.clocks import Clocks
from .state import RunState
from .step.feed import Feed
from .step.objective import Objective


@dataclass
class TrialContext:
    """What stays fixed while the state changes.

    `keep` is called with the state right after each step of `keep_at`, before its boundary, so that
    other trials can fork there. `teacher` is the model to learn from besides the labels, if the arm
    has one.
    """

    spec: TrialSpec
    task: Task
    device: torch.device
    clocks: Clocks
    keep_at: frozenset[int] = frozenset()
    keep: Callable[[RunState], None] = lambda _: None
    teacher: nn.Module | None = None

    def __post_init__(self) -> None:
        self.arm, training = self.spec.arm, self.spec.training
        self.protocol = self.spec.protocol
        self.sign = 1.0 if self.task.higher_is_better else -1.0
        self.steps = self.arm.train_steps(training.steps)
        self.events = self.arm.happens(training)
        self.feed = Feed(self.task, training.batch_size, self.spec.seed, self.device)
        self.objective = Objective(self.spec, self.task.info, self.device, self.teacher)
