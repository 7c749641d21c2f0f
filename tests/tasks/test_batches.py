"""Batches are a pure function of (seed, step)."""

from __future__ import annotations

import numpy as np
import pytest

from harness.tasks import step_indices


def test_an_epoch_visits_each_example_at_most_once_and_drops_the_rest():
    seen = np.concatenate([step_indices(23, 5, seed=7, step=s) for s in range(4)])
    assert len(set(seen.tolist())) == 20
    assert set(seen.tolist()) <= set(range(23))


def test_history_does_not_matter():
    steps = [9, 0, 30, 4, 3, 9]
    jumping = [step_indices(23, 5, 1, s) for s in steps]
    walking = [step_indices(23, 5, 1, s) for s in range(31)]
    for step, batch in zip(steps, jumping, strict=True):
        np.testing.assert_array_equal(batch, walking[step])


def test_epochs_and_seeds_differ():
    first = step_indices(50, 50, 0, 0)
    assert sorted(first.tolist()) == list(range(50))
    assert not np.array_equal(first, step_indices(50, 50, 0, 1))
    assert not np.array_equal(first, step_indices(50, 50, 1, 0))


def test_a_caller_cannot_spoil_the_order():
    step_indices(50, 10, 0, 0)[:] = 0
    assert len(set(step_indices(50, 10, 0, 0).tolist())) == 10


def test_the_order_is_pinned():
    """Computed once with numpy 2.4.6: default_rng([3, 1, 0x0DA7A]).permutation(10)[:4]."""
    assert step_indices(10, 4, seed=3, step=2).tolist() == [3, 2, 9, 8]


def test_too_large_a_batch_is_refused_with_both_numbers():
    with pytest.raises(ValueError, match=r"batch_size 11 .* 10 examples"):
        step_indices(10, 11, 0, 0)
    for bad in ({"batch_size": 0}, {"seed": -1}, {"step": -1}):
        with pytest.raises(ValueError, match="at least"):
            step_indices(**({"size": 10, "batch_size": 2, "seed": 0, "step": 0} | bad))
