"""Trials on own data, from end to end."""

from __future__ import annotations

import json

import numpy as np
import pytest

from harness.cli.app import execute

from .conftest import sequences

MODEL = {"blocks": 1, "width": 8, "state_dim": 4}
TRAINING = {"steps": 60, "batch_size": 16, "evaluate_every": 20, "lr": 0.02}
ARM = {"kind": "in_training", "tau": 0.2, "end": 0.5, "count": 1}


def trained(capsys, task):
    """The record of a trial that truncates."""
    with open("spec.json", "w") as file:
        json.dump({"task": task, "model": MODEL, "training": TRAINING, "arm": ARM}, file)
    assert execute(["trial", "spec.json", "--store", "store"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["status"], result["message"]) == ("completed", None)
    return result["record"]


def test_classes(here, capsys):
    x, y = sequences()
    np.savez("mine.npz", x=x, y=y)
    record = trained(capsys, {"name": "arrays", "path": "mine.npz"})
    assert record["test_metric"] > 0.6  # of three classes, told apart by their mean
    assert len(record["data_fingerprint"]) == 64


@pytest.mark.parametrize("per", ["sequence", "step"])
def test_values(here, capsys, per):
    x, _ = sequences()
    y = x.mean(1) if per == "sequence" else np.cumsum(x - x.mean((0, 1)), axis=1)
    np.savez("mine.npz", x=x, y=y)
    record = trained(capsys, {"name": "arrays", "path": "mine.npz", "predict": "value", "per": per})
    assert (record["metric"], record["higher_is_better"]) == ("root_mean_squared_error", False)
    assert record["test_metric"] < 0.9  # of the deviation, which the mean alone leaves
    assert record["step_latency_seconds"] > 0


def test_classes_of_steps_and_next_steps(here, capsys):
    x, _ = sequences()
    np.savez("mine.npz", x=x, y=(x[..., 0] > x[..., 1]).astype(int))
    record = trained(capsys, {"name": "arrays", "path": "mine.npz", "per": "step"})
    assert (record["metric"], record["test_metric"] > 0.7) == ("accuracy", True)
    record = trained(capsys, {"name": "arrays", "path": "mine.npz", "predict": "next_step"})
    assert record["metric"] == "root_mean_squared_error"
    tokens = (np.arange(12) + np.arange(60)[:, None]) % 5
    np.savez("tokens.npz", x=tokens)
    record = trained(capsys, {"name": "arrays", "path": "tokens.npz", "predict": "next_step"})
    assert record["metric"] == "bits_per_token"
    assert record["test_metric"] < np.log2(5)
