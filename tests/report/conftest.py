"""Trials made by hand: the numbers are chosen so that every expected value can be worked out."""

import pandas as pd
import pytest


def make_trial(role, seed, test, *, label=None, matches=None, task="digits", dim=8.0, **changes):
    """One line of a suite's trials; `changes` replaces columns."""
    label = label or role
    trial = {
        "trial_id": f"{task}/{label}/{seed}",
        "task": task,
        "model": "lru",
        "arm": "full" if role == "small" else role,
        "seed": seed,
        "protocol": "strict",
        "status": "completed",
        "metric": "accuracy",
        "higher_is_better": True,
        "val_metric": test,
        "test_metric": test,
        "selected_step": 600,
        "state_dims": [int(dim), int(dim)],
        "state_dim_mean": dim,
        "state_dim_total": int(2 * dim),
        "initial_state_dim": 64.0,
        "parameters": 1000,
        "train_flops": 100.0,
        "seconds_total": 10.0,
        "exclusive": True,
        "threads": 1,
        "peak_memory_bytes": 1_000_000,
        "state_bytes": None,
        "step_latency_seconds": None,
        "flops_method": 100.0,
        "seconds_method": 10.0,
        "backend": "plain",
        "device": "a cpu",
        "torch_version": "2.13.0",
        "git_commit": "abc",
        "data_fingerprint": f"data of {task}",
        "label": label,
        "role": role,
        "matches": matches,
        "comparison": None,
    }
    unknown = set(changes) - set(trial)
    assert not unknown, unknown
    return trial | changes


def make_suite(task="digits", **changes):
    """Four arms and three seeds. By seed: full - ours = 0.1, ours - small = 0.10, 0.15, 0.10."""
    ours = "in_training tau=0.1"
    trials = []
    for seed, test in enumerate([0.80, 0.90, 0.85]):
        small = [0.70, 0.75, 0.75][seed]
        common = {"task": task, **changes}
        trials += [
            make_trial("full", seed, test + 0.1, dim=64.0, flops_method=400.0, **common),
            make_trial("in_training", seed, test, label=ours, dim=7.0 + seed, **common),
            make_trial(
                "post_hoc", seed, test - 0.4, label="post_hoc as tau=0.1", matches=ours,
                dim=7.0 + seed, **common,
            ) | {"train_flops": 0.0, "flops_method": 420.0, "seconds_method": 12.0},
            make_trial(
                "small", seed, small, label="small as tau=0.1", matches=ours, dim=7.0 + seed,
                **common,
            ),
        ]  # fmt: skip
    return pd.DataFrame(trials)


def make_comparison(name, shift=0.0, flops=1.0):
    """`make_suite` as the named one of several comparisons on a task, labels as the suite has them.

    Every test metric but full's is lower by `shift`, and all FLOPs are `flops` times as many.
    """
    trials = make_suite(comparison=name)
    trials["trial_id"] = name + "/" + trials.trial_id
    for column in ("label", "matches"):
        trials[column] = [None if pd.isna(text) else f"{name}: {text}" for text in trials[column]]
    trials.loc[trials.role != "full", "test_metric"] -= shift
    trials["flops_method"] *= flops
    return trials


@pytest.fixture
def comparison_named():
    return make_comparison


@pytest.fixture
def trial():
    return make_trial


@pytest.fixture
def suite():
    return make_suite


@pytest.fixture
def two_tasks():
    """Accuracy, and bits per byte where lower is better."""
    lower = make_suite(task="pylib", metric="bits_per_byte", higher_is_better=False)
    return pd.concat([make_suite(), lower], ignore_index=True)
