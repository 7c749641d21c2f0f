"""A store in a temporary folder, and trials to put into it."""

from __future__ import annotations

from typing import Any

import pytest

from harness.records.collect import collect
from harness.records.store import Store, TrialDir

SPEC: dict[str, Any] = {
    "spec_version": 1,
    "task": {"name": "digits"},
    "model": {"kind": "lru", "blocks": 2, "state_dim": 64},
    "training": {"steps": 600, "lr": 0.004, "protocol": "strict"},
    "arm": {"kind": "full"},
    "seed": 0,
}


def record_of(trial_id: str, seed: int = 0, **changes: Any) -> dict[str, Any]:
    """Some fixed columns of `trials`; the others are left to be null."""
    record = {
        "trial_id": trial_id, "task": "digits", "model": "lru", "arm": "full", "seed": seed,
        "status": "completed", "metric": "accuracy", "higher_is_better": True,
        "test_metric": 0.95, "selected_step": 600, "state_dims": [64, 64],
        "state_dim_mean": 64.0, "train_flops": 1e12, "data_fingerprint": "d1",
    }  # fmt: skip
    return {**record, **changes}


def curve_of(trial_id: str, points: int = 3) -> list[dict[str, Any]]:
    return [
        {"trial_id": trial_id, "step": k, "split": "validation", "metric": "accuracy",
         "value": k / points, "seconds": float(k)}
        for k in range(points)
    ]  # fmt: skip


def end(store: Store, trial_id: str, seed: int = 0, points: int = 3, **changes: Any) -> TrialDir:
    """Write a whole ended trial."""
    trial = store.trial(trial_id)
    trial.begin({**SPEC, "seed": seed}, {"threads": 1})
    record = record_of(trial_id, seed, **changes)
    result = {"status": record["status"], "record": record}
    trial.finish({"curves": curve_of(trial_id, points)}, result)
    return trial


@pytest.fixture
def store(tmp_path) -> Store:
    return Store.open(tmp_path / "store")


@pytest.fixture
def ended():
    """The function `end`."""
    return end


@pytest.fixture
def spec() -> dict[str, Any]:
    return SPEC


def record_demo(store: Store) -> dict[str, Any]:
    """A suite of two trials, one of them in two roles, with a report; its plan."""
    end(store, "aa", points=1000)
    end(store, "bb", seed=1)
    roles = [("aa", "full"), ("aa", "small"), ("bb", "full")]
    plan = {"trials": [{"trial_id": t, "label": r, "role": r, "matches": None} for t, r in roles]}
    collect(store, "demo", plan)
    folder = store.suite("demo").folder
    (folder / "index.html").write_text("<html>")
    (folder / "figures").mkdir()
    (folder / "figures" / "a.png").write_bytes(b"png")
    return plan


@pytest.fixture
def recorded(store):
    """The store and the plan of `record_demo`."""
    return store, record_demo(store)
