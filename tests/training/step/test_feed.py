"""Batches on their way: the same ones, whatever was prepared before."""

import numpy as np
import pytest
import torch

from harness.tasks import DigitsSpec, build, step_indices
from harness.training.step.feed import Feed

CPU = torch.device("cpu")


@pytest.fixture
def task():
    return build(DigitsSpec(name="digits"))


def assert_batch(task, batch, step):
    expected = task.examples("train", step_indices(task.sizes["train"], 20, 3, step))
    assert all(torch.equal(one, two) for one, two in zip(batch, expected, strict=True))


def test_a_batch_is_a_function_of_seed_and_step(task):
    feed = Feed(task, 20, 3, CPU)
    for step in (0, 1, 1, 7, 0, 49, 50):
        assert_batch(task, feed.take(step), step)
        feed.prepare(step + 1)


def test_a_prepared_batch_is_made_once(task, monkeypatch):
    made = []
    examples = task.examples
    monkeypatch.setattr(task, "examples", lambda *a: made.append(1) or examples(*a))
    feed = Feed(task, 20, 3, CPU)
    feed.prepare(4)
    feed.prepare(4)
    assert len(made) == 1
    feed.take(4)
    assert len(made) == 1
    feed.take(5)
    assert len(made) == 2


def test_on_a_cpu_nothing_is_copied(task, monkeypatch):
    x, y = task.examples("train", np.arange(20))
    monkeypatch.setattr(task, "examples", lambda *_: (x, y))
    taken = Feed(task, 20, 3, CPU).take(0)
    assert [one.data_ptr() for one in taken] == [x.data_ptr(), y.data_ptr()]
