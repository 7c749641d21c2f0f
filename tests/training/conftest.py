"""Trials that several tests look at, each run once."""

import pytest
import torch

from harness.records.store import Store
from harness.training.trial import run_trial

from .trials import trial_spec

ARMS = {
    "full": trial_spec({"kind": "full"}),
    "in_training": trial_spec(
        {"kind": "in_training", "tau": 0.2, "start": 0.1, "end": 0.5, "count": 3},
        model={"dropout": 0.1},
    ),
    "untruncated": trial_spec({"kind": "in_training", "tau": 0.0, "end": 0.4, "count": 3}),
    "post_hoc": trial_spec({"kind": "post_hoc", "tau": 0.2, "finetune_steps": 100}),
    "residualised": trial_spec(
        {
            "kind": "post_hoc",
            "method": "singular_perturbation",
            "state_dims": [6],
            "finetune_steps": 60,
        }
    ),
    "pragmatic": trial_spec(
        {
            "kind": "in_training",
            "rule": "pragmatic",
            "fraction": 0.5,
            "tolerance": 0.0,
            "end": 1.0,
            "count": 6,
        },
        model={"norm": "ema_batch"},
    ),
    "distill": trial_spec({"kind": "distill", "state_dims": [5, 3]}),
    "hankel_regularized": trial_spec({"kind": "hankel_regularized", "tau": 0.2}),
    "in_training by task": trial_spec(
        {
            "kind": "in_training",
            "rule": "fixed",
            "final": 5,
            "count": 2,
            "end": 0.5,
            "gramians": "task",
            "calibration": 60,
            "target": "fisher",
        },
        model={"dropout": 0.1},
    ),
    "in_training in order": trial_spec(
        {
            "kind": "in_training",
            "tau": 0.1,
            "count": 2,
            "end": 0.5,
            "gramians": "task",
            "sweep": "in_order",
            "calibration": 60,
        },
        model={"dropout": 0.1},
    ),
    "in_training by loss": trial_spec(
        {
            "kind": "in_training",
            "rule": "loss",
            "max_loss": 0.05,
            "count": 2,
            "end": 0.5,
            "gramians": "task",
            "calibration": 60,
        },
        model={"dropout": 0.1},
    ),
    "refitted": trial_spec(
        {
            "kind": "in_training",
            "tau": 0.2,
            "count": 2,
            "end": 0.5,
            "calibration": 60,
            "refit": "BC+gain",
            "refit_weight": "task",
        },
        model={"dropout": 0.1},
    ),
    "published": trial_spec(
        {"kind": "in_training", "tau": 0.2, "end": 0.5, "keep": "random", "moments": "slice"},
        model={"dropout": 0.1},
        training={"protocol": "published"},
    ),
}


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    """One thread, on the CPU, whatever stands around; and threads as they were, after."""
    for name in ("HARNESS_THREADS", "HARNESS_CHECKPOINT_SECONDS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HARNESS_DEVICE", "cpu")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """A store with one trial of every arm, run without interruption."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_DEVICE", "cpu")
        patch.delenv("HARNESS_THREADS", raising=False)
        patch.delenv("HARNESS_CHECKPOINT_SECONDS", raising=False)
        store = Store.open(tmp_path_factory.mktemp("undisturbed"))
        for spec in ARMS.values():
            run_trial(spec, store)
    return store


@pytest.fixture(scope="session")
def specs():
    return ARMS


@pytest.fixture
def store(tmp_path):
    """An empty store."""
    return Store.open(tmp_path / "store")
