"""A task of your own: which of four tones is in the noise?

harness run own_task.py
"""

from typing import ClassVar, Literal

import numpy as np
import torch

import harness
from harness.suite import Comparison, FullSpec, ModelSpec, Suite, TaskSpec, TrainingSpec
from harness.tasks import Task, TaskInfo, TaskSpecBase
from harness.tasks.base import class_counts, digest, sample_path

TONES = (2, 3, 5, 8)  # periods in a sequence


class Tones(Task):
    """Sequences of one channel, made anew from `split_seed` whenever they are needed."""

    provenance = "generated tones in white noise"

    def __init__(self, spec, data_dir):
        self.name, self.family, self.metric = spec.name, spec.family, spec.metric
        self.info = spec.info
        self.sizes = {"train": spec.train, "validation": spec.validation, "test": spec.test}
        numbers = np.random.default_rng(spec.split_seed)
        time = np.arange(spec.length) / spec.length
        self.x, self.y = {}, {}
        for split, size in self.sizes.items():
            y = numbers.integers(len(TONES), size=size)
            phase = numbers.uniform(0, 2 * np.pi, size=(size, 1))
            tone = np.sin(2 * np.pi * np.array(TONES)[y][:, None] * time + phase)
            noise = spec.noise * numbers.standard_normal((size, spec.length))
            self.x[split], self.y[split] = (tone + noise).astype(np.float32), y
        arrays = {f"{split}/x": x for split, x in self.x.items()}
        self.fingerprint = digest(arrays | {f"{split}/y": y for split, y in self.y.items()})

    def _take(self, split, rows):
        """x (batch, length, 1) float32, y (batch,) int64."""
        x = torch.from_numpy(self.x[split][rows]).unsqueeze(-1)
        return x, torch.from_numpy(self.y[split][rows])

    def _balance(self, split):
        return class_counts(self.y[split], len(TONES))

    def sample(self, directory):
        """What a person needs to see what the model sees: a few sequences as text."""
        path = sample_path(directory, "tones.csv")
        np.savetxt(path, self.x["train"][:10], delimiter=",", fmt="%.4f")
        return path


@harness.task
class TonesSpec(TaskSpecBase):
    """What may be asked of the task, known before there are any data."""

    family: ClassVar = "own"
    metric: ClassVar = "accuracy"
    origin: ClassVar = "generated tones in white noise"
    implementation: ClassVar = Tones

    name: Literal["tones"] = "tones"
    length: int = 32
    noise: float = 0.5
    train: int = 400
    validation: int = 100
    test: int = 100

    @property
    def info(self):
        return TaskInfo("classification", outputs=len(TONES), length=self.length, inputs=1)

    @property
    def train_size(self):
        return self.train


suite = Suite(
    name="own_task",
    comparisons=(
        Comparison(
            task=TaskSpec(name="tones", noise=0.3),
            model=ModelSpec(width=8, state_dim=8),
            training=TrainingSpec(steps=40, evaluate_every=20),
            arms={"full": FullSpec()},
            seeds=(0, 1),
        ),
    ),
)
