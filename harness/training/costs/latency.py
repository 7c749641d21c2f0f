"""The cost of one step in recurrent mode: seconds, and memory between steps."""

from __future__ import annotations

import itertools
import statistics
import time

import numpy as np
import torch

from harness.models import Backbone
from harness.tasks.base import Task

WARM_UP, MEASURED = 20, 300  # steps at most
WARM_UP_SECONDS, MEASURED_SECONDS = 0.05, 0.2  # no step starts later than this


@torch.inference_mode()
def step_latency(model: Backbone, task: Task, device: torch.device) -> tuple[float, int]:
    """(median seconds of a step of one sequence, bytes of its state between steps).

    Runs one validation example of the task repeatedly through the model in evaluation mode; a
    paired example is two sequences. Waits for the device after every step.
    """
    model.eval()
    x, _ = task.examples("validation", np.arange(1))
    steps = itertools.cycle(x.to(device).unbind(2 if task.info.paired else 1))
    state = model.initial_state(1, device)
    size = state.bytes
    seconds: list[float] = []
    for most, budget in ((WARM_UP, WARM_UP_SECONDS), (MEASURED, MEASURED_SECONDS)):
        seconds = []
        begun = time.perf_counter()
        while not seconds or (len(seconds) < most and time.perf_counter() - begun < budget):
            start = time.perf_counter()
            _, state = model.step(next(steps), state)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), size
