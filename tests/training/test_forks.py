"""A trial that begins where it parts from another ends as if it had been run alone, bit by bit."""

from __future__ import annotations

import pytest

from harness.records.store import Store
from harness.suite import TrialSpec
from harness.suite.fork_family import common_steps
from harness.training.trial import Execution, Fork, Interrupted, run_trial

from .trials import TABLES, record_of, table_of, trial_spec, weights_of

OWN = {"forked_from", "flops_spent"}  # what sharing is there to change
DROPOUT = {"dropout": 0.1}


def in_training(tau=0.2, start=0.1, end=0.5, count=2, **knobs):
    knobs |= {"tau": tau, "start": start, "end": end, "count": count}
    return {"kind": "in_training", **knobs}


def assert_same_but_cheaper(shared, alone, trial_id):
    assert weights_of(shared, trial_id) == weights_of(alone, trial_id)
    for name in TABLES:
        assert table_of(shared, trial_id, name) == table_of(alone, trial_id, name), name
    ours, theirs = (record_of(store.trial(trial_id).result()) for store in (shared, alone))
    assert {k: v for k, v in ours.items() if k not in OWN} == {
        k: v for k, v in theirs.items() if k not in OWN
    }


def forked(parent, fork, store):
    """Run both, the fork from the last step that it has in common with its parent; that step."""
    step = common_steps(parent, fork)
    run_trial(parent, store, Execution(keep_at=(step,), exclusive=True))
    run_trial(fork, store, Execution(fork=Fork(parent.trial_id, step), exclusive=True))
    return step


@pytest.fixture
def alone(tmp_path):
    return Store.open(tmp_path / "alone")


@pytest.mark.parametrize(
    ("parent", "fork", "step"),
    [
        ({"kind": "full"}, in_training(), 36),
        ({"kind": "full"}, in_training(moments="reset", gate=0.05), 36),
        ({"kind": "full"}, in_training(start=0.0, end=1.0, count=3), 40),  # where one evaluates
        ({"kind": "full"}, in_training(tau=0.0), 36),
        (in_training(), in_training(end=0.9), 36),
        (in_training(), in_training(start=0.2, end=0.4, count=1), 36),
        (in_training(end=0.3), in_training(start=0.0, end=0.4), 36),  # behind a shared truncation
        (in_training(end=0.3), in_training(end=0.4, count=3), 48),  # behind two
        (in_training(tau=0.3), in_training(tau=0.2), 36),
        (in_training(keep="random", end=0.3), in_training(keep="random", end=0.4, count=3), 48),
        # After truncations that the fork may have to undo.
        (
            in_training(rule="pragmatic", start=0.0, end=0.6, count=3, fraction=0.5),
            in_training(rule="pragmatic", start=0.0, end=0.8, count=4, fraction=0.5),
            96,
        ),
    ],
)
def test_forks_of_every_kind(store, alone, parent, fork, step):
    parent, fork = (trial_spec(arm, model=DROPOUT) for arm in (parent, fork))
    assert forked(parent, fork, store) == step
    for spec in (parent, fork):
        run_trial(spec, alone, Execution(exclusive=True))
        assert_same_but_cheaper(store, alone, spec.trial_id)
    record = store.trial(fork.trial_id).result()["record"]
    assert record["forked_from"] == parent.trial_id
    assert 0 < record["flops_spent"] < record["train_flops"]
    assert record["seconds_spent"] < record["seconds_total"]
    assert record["exclusive"]


def test_a_fork_under_published_inherits_bar_and_clock(store, alone):
    training = {"protocol": "published"}
    parent, fork = (
        trial_spec(arm, training=training)
        for arm in (in_training(end=0.4, moments="slice"), in_training(end=0.8, moments="slice"))
    )
    assert forked(parent, fork, store) == 60  # after the truncations at 20 and 40
    run_trial(fork, alone)
    assert_same_but_cheaper(store, alone, fork.trial_id)
    record = store.trial(fork.trial_id).result()["record"]
    assert record["seconds_protocol"] > record["seconds_train"]


def test_another_size_of_a_regularized_model_costs_no_training(store, alone):
    parent, fork = (trial_spec({"kind": "hankel_regularized", "state_dims": [n]}) for n in (5, 3))
    assert forked(parent, fork, store) == 120
    run_trial(fork, alone)
    assert_same_but_cheaper(store, alone, fork.trial_id)
    record = store.trial(fork.trial_id).result()["record"]
    assert record["flops_spent"] == 0
    assert record["state_dims"] == [3, 3]


@pytest.mark.parametrize(
    "task",
    [
        {"name": "pylib", "window": 32, "train": 200, "validation": 20, "test": 20},
        {"name": "vowels", "length": 64, "train": 100, "validation": 40, "test": 40},
        {"name": "listops", "train": 100, "validation": 20, "test": 20, "min_length": 3,
         "max_length": 20, "max_depth": 2, "max_args": 3, "length": 20},
    ],
)  # fmt: skip
def test_forks_on_every_task(store, alone, task):
    common = {
        "task": task,
        "model": {"blocks": 2, "width": 4, "state_dim": 8},
        "training": {"steps": 20, "batch_size": 4, "evaluate_every": 7},
    }
    parent = TrialSpec(**common, arm={"kind": "full"})
    fork = TrialSpec(**common, arm=in_training(tau=0.4))
    assert forked(parent, fork, store) == 6
    run_trial(fork, alone)
    assert_same_but_cheaper(store, alone, fork.trial_id)


def test_post_hoc_finds_its_parent_as_it_would_without_sharing(store, alone):
    parent, later = (
        trial_spec(arm) for arm in ({"kind": "full"}, {"kind": "post_hoc", "tau": 0.2})
    )
    run_trial(parent, store, Execution(keep_at=(5, 36, 77)))
    run_trial(parent, alone)
    for where in (store, alone):
        run_trial(later, where)
    assert store.trial(parent.trial_id).forks() == [5, 36, 77]
    assert_same_but_cheaper(store, alone, later.trial_id)


def test_a_killed_branch_goes_on_and_remembers_where_it_came_from(store, alone):
    parent, fork = trial_spec({"kind": "full"}), trial_spec(in_training())
    run_trial(parent, store, Execution(keep_at=(36,)))
    calls = iter([False, False, True])
    place = Fork(parent.trial_id, 36)
    with pytest.raises(Interrupted):
        run_trial(fork, store, Execution(fork=place, stop=lambda: next(calls)))
    store.trial(parent.trial_id).drop_forks()
    run_trial(fork, store)
    run_trial(fork, alone)
    assert_same_but_cheaper(store, alone, fork.trial_id)
    record = store.trial(fork.trial_id).result()["record"]
    assert record["forked_from"] == parent.trial_id
    assert record["flops_spent"] < record["train_flops"]


def test_timings_of_a_branch_are_exclusive_only_if_the_trunk_was(store):
    parent, fork = trial_spec({"kind": "full"}), trial_spec(in_training())
    run_trial(parent, store, Execution(keep_at=(36,), exclusive=False))
    run_trial(fork, store, Execution(fork=Fork(parent.trial_id, 36), exclusive=True))
    assert not store.trial(fork.trial_id).result()["record"]["exclusive"]


def test_without_a_kept_state_a_branch_runs_alone(store, alone):
    fork = trial_spec(in_training())
    run_trial(fork, store, Execution(fork=Fork("0123456789abcdef", 36)))
    run_trial(fork, alone)
    record = store.trial(fork.trial_id).result()["record"]
    assert record["forked_from"] is None
    assert record["flops_spent"] == record["train_flops"]


def test_a_state_of_other_threads_is_not_gone_on_with(store, monkeypatch):
    parent, fork = trial_spec({"kind": "full"}), trial_spec(in_training())
    run_trial(parent, store, Execution(keep_at=(36,)))
    monkeypatch.setenv("HARNESS_THREADS", "2")
    run_trial(fork, store, Execution(fork=Fork(parent.trial_id, 36)))
    assert store.trial(fork.trial_id).result()["record"]["forked_from"] is None


def test_a_state_of_another_numpy_is_not_gone_on_with(store, monkeypatch):
    training = {"steps": 10, "evaluate_every": 5}
    parent, fork = (trial_spec(arm, training=training) for arm in ({"kind": "full"}, in_training()))
    run_trial(parent, store, Execution(keep_at=(3,)))
    monkeypatch.setattr("numpy.__version__", "1.0.0")
    run_trial(fork, store, Execution(fork=Fork(parent.trial_id, 3)))
    assert store.trial(fork.trial_id).result()["record"]["forked_from"] is None


def test_a_state_of_another_run_is_refused(store):
    parent = trial_spec(in_training(tau=0.3))
    run_trial(parent, store, Execution(keep_at=(50,)))
    with pytest.raises(ValueError, match="is another run by step 50"):
        run_trial(
            trial_spec(in_training(tau=0.2)), store, Execution(fork=Fork(parent.trial_id, 50))
        )


def test_held_states_stay(store):
    parent = trial_spec({"kind": "full"})
    run_trial(parent, store, Execution(keep_at=(10, 20)))
    trial = store.trial(parent.trial_id)
    trial.hold_forks("a-study")
    trial.drop_forks()
    assert trial.forks() == [10, 20]
    trial.release_forks("a-study")
    trial.drop_forks(but=[20])
    assert trial.forks() == [20]
    trial.drop_forks()
    assert not (trial.path / "forks").exists()
