"""Trials on recall tasks, from end to end: every arm that reads targets."""

from __future__ import annotations

import json

import pytest

from harness.suite import TaskSpec, TrialSpec
from harness.training.trial import run_trial

from .trials import table_of

SIZES = {"train": 200, "validation": 40, "test": 40}
TASKS = {
    "mqar": TaskSpec(name="mqar", length=16, pairs=2, vocabulary=12, **SIZES),
    "copying": TaskSpec(name="copying", length=16, tokens=4, trained="every_step", **SIZES),
    "selective_copying": TaskSpec(name="selective_copying", length=16, tokens=3, **SIZES),
    "induction": TaskSpec(name="induction", length=12, vocabulary=6, **SIZES),
}
BY_TASK = {"gramians": "task", "calibration": 40}
SHRINK = {"kind": "in_training", "tau": 0.3, "end": 0.6, "count": 2, **BY_TASK}


@pytest.fixture(autouse=True)
def folder_of_data(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "data"))


def spec_of(name, arm, **training):
    return TrialSpec(
        task=TASKS[name],
        model={"blocks": 2, "width": 8, "state_dim": 10},
        training={"steps": 40, "batch_size": 20, "evaluate_every": 20, **training},
        arm=arm,
    )


@pytest.mark.parametrize("name", TASKS)
def test_a_trial_trains_truncates_by_the_task_and_scores(name, store):
    spec = spec_of(name, SHRINK)
    result = run_trial(spec, store)
    assert (result["status"], result["message"]) == ("completed", None)
    assert 0 <= result["record"]["test_metric"] <= 1
    asked = TASKS[name].test * TASKS[name].answers
    hits = result["record"]["test_metric"] * asked
    assert hits == pytest.approx(round(hits), abs=1e-6)  # a share of the answers alone
    rows = table_of(store, spec.trial_id, "truncations")
    assert {row["gramians"] for row in rows} == {"signal/task"}


@pytest.mark.parametrize("protocol", ["published", "release"])
def test_the_published_loss_takes_targets_that_are_not_scored(protocol, store):
    spec = spec_of("mqar", {"kind": "full"}, protocol=protocol)
    result = run_trial(spec, store)
    assert (result["status"], result["message"]) == ("completed", None)


@pytest.mark.parametrize(
    "arm",
    [
        {"kind": "distill", "state_dims": [4]},
        {"kind": "post_hoc", "state_dims": [4], "refit": "C", "refit_weight": "task", **BY_TASK},
        {"kind": "post_hoc", "state_dims": [4], "target": "fisher", **BY_TASK},
    ],
    ids=["distill", "refit", "fisher"],
)
def test_arms_that_stand_on_the_full_trial_read_its_model_and_the_targets(arm, store):
    spec = spec_of("mqar", arm)
    assert run_trial(spec.source(), store)["status"] == "completed"
    described = json.loads((store.trial(spec.source().trial_id).path / "model.json").read_text())
    assert described["task_info"]["unscored"] is True
    result = run_trial(spec, store)
    assert (result["status"], result["message"]) == ("completed", None)


def test_what_is_trained_is_part_of_a_trials_identity(store):
    answers = spec_of("mqar", {"kind": "full"})
    every = answers.model_copy(
        update={"task": answers.task.model_copy(update={"trained": "every_step"})}
    )
    assert answers.trial_id != every.trial_id
    assert "trained" not in json.loads(answers.model_dump_json(exclude_defaults=True))["task"]
    records = [run_trial(one, store)["record"] for one in (answers, every)]
    assert records[0]["data_fingerprint"] != records[1]["data_fingerprint"]
