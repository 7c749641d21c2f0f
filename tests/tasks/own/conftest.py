"""Small files of people's own, and what is asked of each."""

from __future__ import annotations

import numpy as np
import pytest

from harness import tasks
from harness.suite import TaskSpec


def sequences(count=60, steps=12, channels=2, classes=3, seed=0):
    """(x, y): noise around a mean that says the class."""
    random = np.random.default_rng(seed)
    y = random.permutation(np.arange(count) % classes)
    x = random.normal(size=(count, steps, channels)) + 3.0 * y[:, None, None] + 100.0
    return x.astype(np.float32), y


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory, and no settings of the caller's."""
    for name in ("HARNESS_STORE", "HARNESS_DATA", "HARNESS_THREADS", "HARNESS_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def made(here):
    """Build a task of the working directory's files."""

    def make(name="arrays", **fields):
        return tasks.build(TaskSpec(name=name, **fields))

    return make
