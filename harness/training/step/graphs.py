"""Forward, loss and backward as one CUDA graph, for steps that are short of work.

A small model's kernels finish before the next one can be launched. A graph launches all of them at
once. It is captured with static inputs, and again whenever the parameters are replaced, as after a
truncation. The optimizer stays outside: fused, it is a launch or two, and its state, the schedule
and checkpoints are the same as without a graph.

`HARNESS_CUDA_GRAPHS`: `auto` (the default) uses a graph if launching a step takes longer than its
work, and does without if the step cannot be captured; 1 requires a graph, 0 never uses one. The
numbers are those of the plain step, bit for bit: `tests/training/step/test_graphs.py` compares them
on a GPU, and on a CPU against an imitation of the capture.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import nn

from harness import environment
from harness.suite.specs import TrialSpec
from harness.tasks.base import TaskInfo
from harness.training.costs.flops import step_flops

LossOf = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Body = Callable[[], list[torch.Tensor]]
Capture = Callable[[Body], tuple[Callable[[], None], list[torch.Tensor]]]

# Measured on an H200 (results/bench/step_h200.txt): launching a block's forward and backward takes
# about 6 ms, in which the GPU does 3e13 FLOPs a second of such work.
FLOPS_PER_BLOCK = 6e-3 * 3e13
WARM_UPS = 3  # passes for libraries to set up what they cannot during a capture


def refusal(spec: TrialSpec, info: TaskInfo, device: torch.device) -> str | None:
    """Why this trial's steps, at its first size, run without a graph; None if they use one."""
    asked = environment.CUDA_GRAPHS.get()
    if asked is False:
        return "HARNESS_CUDA_GRAPHS is 0"
    if device.type != "cuda":
        return "no CUDA GPU"
    model = spec.model
    flops = step_flops(model, info, model.state_dims, spec.training.batch_size)
    if asked is None and flops > FLOPS_PER_BLOCK * model.blocks:
        return f"a step of {flops:.1e} FLOPs outlasts its launches"
    return None


def plain(model: nn.Module, loss_of: LossOf, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Leave the gradients in the parameters and return the loss, without waiting for the device."""
    for parameter in model.parameters():
        parameter.grad = None
    loss = loss_of(model(x), y)
    loss.backward()
    return loss.detach()


class Graphed:
    """`plain` as a graph, captured on the first call and whenever it no longer fits.

    `may_fail`: if a step cannot be captured (it waits for the GPU, say), warn and run it without a
    graph from then on; otherwise raise the capture's error.
    """

    def __init__(self, capture: Capture | None = None, may_fail: bool | None = None):
        self.capture = capture or capture_on_gpu
        insisted = environment.CUDA_GRAPHS.get() is True
        self.may_fail = not insisted if may_fail is None else may_fail
        self.captures = 0
        self.failed = False
        self._step: Captured | None = None

    def __call__(
        self, model: nn.Module, loss_of: LossOf, x: torch.Tensor, y: torch.Tensor
    ) -> torch.Tensor:
        if not self.failed and (self._step is None or not self._step.fits(model, x, y)):
            self._step = None  # frees its memory before the next capture
            try:
                self._step = Captured(model, loss_of, x, y, self.capture)
            except RuntimeError as error:
                if not self.may_fail or isinstance(error, torch.OutOfMemoryError):
                    raise
                self.failed = True
                warnings.warn(f"no CUDA graph of this step: {first_line(error)}", stacklevel=2)
            else:
                self.captures += 1
        if self._step is None:
            return plain(model, loss_of, x, y)
        return self._step.replay(x, y)


def first_line(error: BaseException) -> str:
    """The error's first line, without torch's advice."""
    return (str(error).splitlines() or [type(error).__name__])[0]


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

        # Warm-up changes running statistics and draws random numbers: undo both.
        buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
        try:
            with torch.random.fork_rng([x.device] if x.is_cuda else []):
                self._replay, outputs = capture(body)
        finally:
            for buffer, before in buffers:
                buffer.copy_(before)
        self.loss, self.gradients = outputs[0], outputs[1:]
        if len(self.gradients) != len(self.parameters):
            raise ValueError("a graph needs a gradient for every parameter that is not frozen")

    def fits(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> bool:
        """Whether the graph uses this model's tensors, for batches of this shape."""
        tensors = [*model.parameters(), *model.buffers()]
        forms = all(
            old.shape == new.shape and old.dtype == new.dtype
            for old, new in ((self.x, x), (self.y, y))
        )
        same = len(tensors) == len(self.tensors)
        same = same and all(a is b for a, b in zip(tensors, self.tensors, strict=True))
        return forms and same and model.training == self.training

    def replay(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """A copy of this batch's loss. The next call overwrites the gradients in the parameters."""
        self.x.copy_(x)
        self.y.copy_(y)
        self._replay()
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = gradient
        return self.loss.clone()


def capture_on_gpu(body: Body) -> tuple[Callable[[], None], list[torch.Tensor]]:
    """(replay, the tensors that each replay overwrites), as torch prescribes.

    Raises:
        RuntimeError: the step cannot be captured; it can still be run.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            body()
    torch.cuda.current_stream().wait_stream(side)
    with nothing_waits():
        body()
    graph, generator = torch.cuda.CUDAGraph(), torch.cuda.default_generators[side.device.index]
    before = generator.get_state()
    try:
        with torch.cuda.graph(graph):
            outputs = body()
    except RuntimeError:
        revive(generator, before)
        raise
    return graph.replay, outputs


@contextlib.contextmanager
def nothing_waits() -> Iterator[None]:
    """Inside, an operation that waits for the GPU raises RuntimeError, where it does no harm."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():  # it warns that this mode is a prototype
        warnings.simplefilter("ignore")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def revive(generator: torch.Generator, state: torch.Tensor) -> None:
    """Reset torch's generator, which a failed capture leaves in capture mode (pytorch #171263)."""
    fresh = torch.Generator(generator.device)
    fresh.set_state(state)
    generator.graphsafe_set_state(fresh.graphsafe_get_state())
