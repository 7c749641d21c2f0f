"""What a launch is refused for before it starts."""

import pytest

from harness.launch import run_suite as run
from harness.planning.plan import Plan
from harness.records.store import Store
from harness.suite import (
    Comparison,
    FullSpec,
    InTrainingSpec,
    LRUSpec,
    Suite,
    TaskSpec,
    TrainingSpec,
)
from harness.training.trial import run_trial


@pytest.fixture
def suite():
    return Suite(
        name="two",
        comparisons=(
            Comparison(
                task=TaskSpec(name="digits"),
                model=LRUSpec(blocks=1, width=4, state_dim=4),
                training=TrainingSpec(steps=4, evaluate_every=4),
                arms={
                    "full": FullSpec(kind="full"),
                    "in_training": InTrainingSpec(kind="in_training", end=1.0),
                },
            ),
        ),
    )


def test_only_what_is_missing_is_checked(suite, tmp_path, monkeypatch):
    """An ended trial may have had a larger machine, or a backend that is not here."""
    store = Store(tmp_path)
    full, shrinking = (row.spec for row in Plan(suite, store).rows)
    run_trial(full, store)

    def check(trials, *_):
        assert [trial.trial_id for trial in trials] == [shrinking.trial_id]
        raise ValueError("seen")

    monkeypatch.setattr(run, "check_launch", check)
    with pytest.raises(ValueError, match="seen"):
        run.run_suite(suite, store, "harness run two.py")


def test_a_trial_that_does_not_fit_is_refused_before_anything_is_written(
    suite, tmp_path, monkeypatch
):
    monkeypatch.setattr("harness.training.host.memory.machine_memory", lambda: 2**10)
    with pytest.raises(ValueError, match=r"a full trial of digits needs at least .* 0\.000977 MiB"):
        run.run_suite(suite, Store(tmp_path), "harness run two.py")
    assert not list(tmp_path.iterdir())
