"""The metric of a model on one split."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from harness.tasks.base import UNSCORED, Task
from harness.tasks.metrics import measure

from .step.feed import to_device
from .step.loss import metric_sum

TOKENS_AT_ONCE = 65_536  # bounds the memory of an evaluation batch, whatever the length


@torch.inference_mode()
def evaluate(model: nn.Module, task: Task, split: str, device: torch.device) -> float:
    """The task's metric over the whole split, in evaluation mode; restores the mode."""
    was_training = model.training
    model.eval()
    size = task.sizes[split]
    batch = max(1, min(size, TOKENS_AT_ONCE // task.info.length))
    total, count = torch.zeros((), dtype=torch.float64, device=device), 0
    for start in range(0, size, batch):
        x, y = task.examples(split, np.arange(start, min(start + batch, size)))
        logits = model(to_device(x, device))
        total += metric_sum(task.metric, logits.float(), to_device(y, device))
        count += int((y != UNSCORED).sum()) if task.info.unscored else y.numel()
    model.train(was_training)
    return measure(task.metric).value(float(total), count)
