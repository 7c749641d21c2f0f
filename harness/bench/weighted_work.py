"""The timed work of `harness bench weighting`: decompositions, and the passes they stand on."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch

from harness.reduction import (
    Calibration,
    decompositions,
    layers,
    weighted_decompositions,
    weighting_of,
)
from harness.reduction.weighting.calibration import listen, listen_both_ways
from harness.training.step.graphs import plain
from harness.training.step.loss import loss_of

from .timed_work import TrainingStep

GRAMIANS = ("horizon", "signal", "task")


class Calibrated:
    """The model of a training step, and random batches of its shape to calibrate it on."""

    def __init__(self, step: TrainingStep, batches: int):
        self.model, info = step.model, step.info
        self.loss_of = partial(loss_of, info.kind)
        self.batches = [(self._like(step.x), self._like(step.y)) for _ in range(batches)]
        self.calibration = Calibration(self.batches, loss=self.loss_of, length=info.length)
        self.layers = dict(enumerate(layers(self.model)))
        self.white = dict(enumerate(decompositions(self.model)))

    @staticmethod
    def _like(x: torch.Tensor) -> torch.Tensor:
        if x.is_floating_point():
            return torch.randn_like(x)
        return x.flatten()[torch.randperm(x.numel())].view_as(x)

    def cases(self) -> dict[str, Callable[[], None]]:
        """What is timed, by name: the passes of training, those of each weighting, and each whole.

        In `passes` every parameter gets its gradient, as in training, but the model is in
        evaluation mode, where it is faster, as in calibration.
        """
        whole = {name: partial(self.decompose, name) for name in GRAMIANS}
        return {"passes": self.passes, "forward": self.forward, "both ways": self.both, **whole}

    def passes(self) -> None:
        """Forward and backward over all batches."""
        self.model.eval()
        for x, y in self.batches:
            plain(self.model, self.loss_of, x, y)
        self.model.train()

    def forward(self) -> None:
        """What `signal` runs, and drops."""
        listen(self.model, self.layers, self.batches, lambda i, u: None)

    def both(self) -> None:
        """What `task` runs, and drops."""
        listen_both_ways(
            self.model, self.layers, self.calibration, lambda i, u: None, lambda i, g: None, "loss"
        )

    def decompose(self, gramians: str) -> None:
        """The whole decomposition; raises unless its spectra are finite."""
        found = weighted_decompositions(
            self.model, self.layers, self.white, weighting_of(gramians), self.calibration
        )
        for i, block in found.items():
            for one in block.systems:
                if not math.isfinite(float(one.hsv.sum())):
                    raise RuntimeError(f"{gramians}, block {i}: the spectrum is not finite")
