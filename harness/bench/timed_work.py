"""The timed work: training steps, and the machine's ceilings."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch

from harness.models import build
from harness.models.specs import BackboneSpec
from harness.suite.specs import TrainingSpec
from harness.tasks.base import TaskInfo
from harness.training.step.graphs import Graphed, plain
from harness.training.step.loss import loss_of
from harness.training.step.optimizer import make_optimizer

SHORT = 32  # steps of a sequence used only to warm up


class TrainingStep:
    """A model with its optimizer and one batch of random data. Each call trains one step; `graph`
    runs forward and backward as a CUDA graph."""

    def __init__(
        self,
        spec: BackboneSpec,
        info: TaskInfo,
        batch: int,
        device: torch.device,
        graph: bool = False,
    ):
        torch.manual_seed(0)
        self.info = info
        self.model = build(spec, info).to(device).train()
        self.optimizer = make_optimizer(self.model, TrainingSpec())
        shape = (batch, info.length)
        if info.vocabulary is not None:
            x = torch.randint(info.vocabulary, shape)
        else:
            x = torch.randn(*shape, info.inputs or 1)
        self.x, self.y = x.to(device), torch.randint(info.outputs, (batch,)).to(device)
        self.loss = torch.zeros(())
        self.run = Graphed() if graph else plain

    def __call__(self) -> None:
        """One step as in `harness.training.loop`, except that the loss is not read."""
        self.loss = self.run(self.model, partial(loss_of, self.info.kind), self.x, self.y)
        self.optimizer.step()

    def warm(self) -> None:
        """One step on a small part of the batch, so that gradients and moments exist."""
        whole = self.x, self.y
        self.x, self.y = self.x[:1, :SHORT], self.y[:1]
        self()
        self.x, self.y = whole

    def check(self, what: str) -> None:
        """Raise unless the loss is finite: a fast wrong step must not enter a table."""
        if not math.isfinite(float(self.loss)):
            raise RuntimeError(f"{what}: the loss of a benchmarked step is {float(self.loss)}")


def waiter(device: torch.device) -> Callable[[], None]:
    """Waits for the device; on a CPU there is nothing to wait for."""
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return lambda: None


class Gemm:
    """One large square float32 product; `work` is its FLOPs."""

    def __init__(self, device: torch.device):
        n = 8192 if device.type == "cuda" else 2048
        self.work = 2.0 * n**3
        self.a, self.b, self.out = (torch.randn(n, n, device=device) for _ in range(3))

    def __call__(self) -> None:
        torch.mm(self.a, self.b, out=self.out)


class Copy:
    """One large copy; `work` is the bytes read and written."""

    def __init__(self, device: torch.device):
        numbers = 2**28 if device.type == "cuda" else 2**26
        self.work = 2.0 * 4 * numbers
        self.a, self.b = (torch.ones(numbers, device=device) for _ in range(2))

    def __call__(self) -> None:
        self.b.copy_(self.a)
