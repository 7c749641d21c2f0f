"""What stays fixed while a trial's state moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from harness.suite.specs import TrialSpec
from harness.tasks.base import Task

from .clocks import Clocks
from .feed import Feed
from .objective import objective_of
from .state import RunState


@dataclass
class TrialContext:
    """What stays fixed while the state moves.

    `keep` is called with the state right after each step of `keep_at`, its boundary not yet
    behind it: a trial that parts there can begin from it. `teacher` is what the model learns from
    beside the labels, if the arm has one.
    """

    spec: TrialSpec
    task: Task
    device: torch.device
    clocks: Clocks
    steps: int
    lr_factor: float = 1.0
    keep_at: frozenset[int] = frozenset()
    keep: Callable[[RunState], None] = lambda _: None
    teacher: nn.Module | None = None

    def __post_init__(self) -> None:
        self.protocol = self.spec.protocol
        self.sign = 1.0 if self.task.higher_is_better else -1.0
        self.events = self.spec.arm.happens(self.spec.training)
        batch_size = self.spec.training.batch_size
        self.feed = Feed(self.task, batch_size, self.spec.seed, self.device)
        self.objective = objective_of(self.spec, self.task.info, self.device, self.teacher)
