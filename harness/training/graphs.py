"""Forward, loss and backward as one CUDA graph, for steps that are short of work.

A small model's kernels are over before the next can be launched. A graph launches all of them at
once; it is captured with static inputs, and anew where the parameters are others, so after a
truncation. The optimizer stays outside: fused it is a launch or two, and so its state, the
schedule and checkpoints are what they are without a graph.

Nobody has run the capture on a GPU yet: it is off unless `HARNESS_CUDA_GRAPHS` is 1. What surrounds
it is tested on a CPU, against an imitation, and `tests/training/test_graphs.py` holds the test that
compares with the plain step where there is a GPU.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from harness import environment
from harness.suite.specs import TrialSpec
from harness.tasks.base import TaskInfo

from .flops import step_flops

LossOf = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Body = Callable[[], list[torch.Tensor]]
Capture = Callable[[Body], tuple[Callable[[], None], list[torch.Tensor]]]

# Assumed, not measured: a launch takes 5 us, in which a GPU does at least 5e7 FLOPs, and a block's
# forward and backward are about 100 launches.
FLOPS_PER_LAUNCH, LAUNCHES_PER_BLOCK = 5e7, 100
WARM_UPS = 3  # passes in which libraries choose and set up what a capture cannot


def refusal(spec: TrialSpec, info: TaskInfo, device: torch.device) -> str | None:
    """Why this trial's steps, of its first size, are launched plainly; None for a graph."""
    if environment.CUDA_GRAPHS.get() is not True:
        return "HARNESS_CUDA_GRAPHS is not 1"
    if device.type != "cuda":
        return "no CUDA GPU"
    model = spec.model
    flops = step_flops(model, info, model.state_dims, spec.training.batch_size)
    if flops > FLOPS_PER_LAUNCH * LAUNCHES_PER_BLOCK * model.blocks:
        return f"a step of {flops:.1e} FLOPs is work enough for its launches"
    return None


def plain(model: nn.Module, loss_of: LossOf, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Leave the gradients in the parameters and return the loss, which nothing has waited for."""
    for parameter in model.parameters():
        parameter.grad = None
    loss = loss_of(model(x), y)
    loss.backward()
    return loss.detach()


class Graphed:
    """`plain` from a graph, captured when first called and whenever it no longer fits."""

    def __init__(self, capture: Capture | None = None):
        self.capture = capture or capture_on_gpu
        self.captures = 0
        self._step: Captured | None = None

    def __call__(
        self, model: nn.Module, loss_of: LossOf, x: torch.Tensor, y: torch.Tensor
    ) -> torch.Tensor:
        if self._step is None or not self._step.fits(model, x, y):
            self._step = None  # its memory is free before the next is captured
            self._step = Captured(model, loss_of, x, y, self.capture)
            self.captures += 1
        return self._step.replay(x, y)


class Captured:
    """One graph, its static inputs, and its outputs: the loss and the gradients."""

    def __init__(
        self, model: nn.Module, loss_of: LossOf, x: torch.Tensor, y: torch.Tensor, capture: Capture
    ):
        self.x, self.y = x.clone(), y.clone()
        self.training = model.training
        self.tensors = [*model.parameters(), *model.buffers()]
        self.parameters = [p for p in model.parameters() if p.requires_grad]

        def body() -> list[torch.Tensor]:
            loss = plain(model, loss_of, self.x, self.y)
            return [loss, *(p.grad for p in self.parameters if p.grad is not None)]

        # Warming up moves running statistics and draws random numbers: neither is a step of ours.
        buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
        with torch.random.fork_rng([x.device] if x.is_cuda else []):
            self._replay, outputs = capture(body)
        for buffer, before in buffers:
            buffer.copy_(before)
        self.loss, self.gradients = outputs[0], outputs[1:]
        if len(self.gradients) != len(self.parameters):
            raise ValueError("a graph needs a gradient for every parameter that is not frozen")

    def fits(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> bool:
        """Whether the graph reads and writes this model's tensors, at batches of this form."""
        tensors = [*model.parameters(), *model.buffers()]
        forms = all(
            old.shape == new.shape and old.dtype == new.dtype
            for old, new in ((self.x, x), (self.y, y))
        )
        same = len(tensors) == len(self.tensors)
        same = same and all(a is b for a, b in zip(tensors, self.tensors, strict=True))
        return forms and same and model.training == self.training

    def replay(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The loss of this batch, a copy; the gradients, in the parameters, are overwritten next
        time."""
        self.x.copy_(x)
        self.y.copy_(y)
        self._replay()
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = gradient
        return self.loss.clone()


def capture_on_gpu(body: Body) -> tuple[Callable[[], None], list[torch.Tensor]]:
    """(replay, the tensors that it writes anew each time), as torch prescribes: never run yet."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            body()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = body()
    return graph.replay, outputs
