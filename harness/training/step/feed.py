"""The training batches on their way to the device."""

from __future__ import annotations

import torch

from harness.tasks import step_indices
from harness.tasks.base import Task

Batch = tuple[torch.Tensor, torch.Tensor]


class Feed:
    """The batch of each step, on the device: a pure function of (seed, step).

    `prepare` makes a batch ahead of time, while a GPU is still busy with the previous step. The
    copy is asynchronous, from pinned memory.
    """

    def __init__(self, task: Task, batch_size: int, seed: int, device: torch.device):
        self.task, self.batch_size, self.seed, self.device = task, batch_size, seed, device
        self._ready: tuple[int, Batch] | None = None

    def prepare(self, step: int) -> None:
        """Start to load the batch of `step`."""
        if self._ready is None or self._ready[0] != step:
            self._ready = step, self._make(step)

    def take(self, step: int) -> Batch:
        """(x, y) of optimizer step `step`, counted from 0, as `Task.examples` gives them."""
        self.prepare(step)
        assert self._ready is not None
        (_, batch), self._ready = self._ready, None
        return batch

    def _make(self, step: int) -> Batch:
        indices = step_indices(self.task.sizes["train"], self.batch_size, self.seed, step)
        x, y = self.task.examples("train", indices)
        return to_device(x, self.device), to_device(y, self.device)


def to_device(array: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A CPU tensor on the device: copied asynchronously to a GPU, not copied on a CPU."""
    if device.type == "cuda":
        return array.pin_memory().to(device, non_blocking=True)
    return array.to(device)
