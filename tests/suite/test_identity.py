"""Ids are pinned: a change here makes every stored trial unfindable."""

import json

import pytest
from pydantic import ValidationError

from harness.suite import InTrainingSpec, ModelSpec, TaskSpec, TrialSpec, canonical

EXAMPLE = {
    "spec_version": 1,
    "task": {"name": "digits"},
    "model": {
        "kind": "lru",
        "blocks": 2,
        "width": 32,
        "state_dim": 64,
        "r_min": 0.9,
        "r_max": 0.999,
        "dropout": 0.0,
        "norm": "batch",
        "mixer": "glu",
    },
    "training": {
        "steps": 600,
        "batch_size": 50,
        "lr": 0.004,
        "ssm_lr_factor": 0.25,
        "weight_decay": 0.05,
        "schedule": "warmup_cosine",
        "warmup": 0.1,
        "evaluate_every": 100,
        "protocol": "strict",
    },
    "arm": {"kind": "in_training", "tau": 0.1, "start": 0.0, "end": 0.1, "count": 4},
    "seed": 0,
}
PINNED = {
    "example": (EXAMPLE, "cc730803714272fe"),
    "full": ({"task": {"name": "digits"}, "arm": {"kind": "full"}}, "25d67eccc2548d6d"),
    "sized": (
        {
            "task": {"name": "pylib", "window": 128},
            "model": {"state_dim": [7, 5]},
            "training": {"steps": 10},
            "arm": {"kind": "full"},
            "seed": 3,
        },
        "76c57d429598cd2f",
    ),
}


@pytest.mark.parametrize("name", PINNED)
def test_pinned_ids(name):
    spec, trial_id = PINNED[name]
    assert TrialSpec.model_validate(spec).trial_id == trial_id


def test_defaults_are_left_out_of_the_identity():
    spec = TrialSpec.model_validate(EXAMPLE)
    assert canonical(spec) == '{"arm":{"kind":"in_training"},"task":{"name":"digits"}}'


def test_json_round_trip_keeps_the_id():
    for spec, trial_id in PINNED.values():
        first = TrialSpec.model_validate(spec)
        again = TrialSpec.model_validate(json.loads(first.model_dump_json()))
        assert again == first
        assert again.trial_id == trial_id


def test_equal_sizes_are_one_size():
    assert ModelSpec(state_dim=[7, 7]) == ModelSpec(state_dim=7)


def test_a_copy_with_equal_sizes_is_of_one_size_again():
    copy = ModelSpec().model_copy(update={"state_dim": (7, 7)})
    spec = TrialSpec(task={"name": "digits"}, model=copy, arm={"kind": "full"})
    assert spec.model == ModelSpec(state_dim=7)


def test_a_copy_is_validated_where_it_is_used():
    arm = InTrainingSpec(kind="in_training").model_copy(update={"tau": 1.5})
    with pytest.raises(ValidationError, match="less than 1"):
        TrialSpec(task={"name": "digits"}, arm=arm)


def test_a_sized_small_trial_is_a_full_trial():
    small = TrialSpec(task={"name": "digits"}, arm={"kind": "small", "state_dims": [7, 5]})
    full = TrialSpec(task={"name": "digits"}, model={"state_dim": [7, 5]}, arm={"kind": "full"})
    assert small.resolved().trial_id == full.trial_id


@pytest.mark.parametrize(
    "change",
    [
        {"arm": {"kind": "in_training", "tau": 1.5}},
        {"arm": {"kind": "in_training", "start": 0.5, "end": 0.2}},
        {"arm": {"kind": "in_training", "count": 1000}},
        {"arm": {"kind": "nope"}},
        {"arm": {"kind": "small"}},
        {"arm": {"kind": "small", "match": "seed"}},
        {"task": {"name": "nope"}},
        {"task": {"name": "digits", "split_seed": -1}},
        {"task": {"name": "digits", "split_seed": "1"}},
        {"task": {"name": "pylib", "window": 128.0}},
        {"training": {"batch_size": 1001}},
        {"model": {"state_dim": 0}},
        {"model": {"state_dim": [1, 2, 3]}},
        {"training": {"steps": 0}},
        {"training": {"steps": "many"}},
        {"training": {"lr": float("nan")}},
        {"spec_version": 2},
        {"seed": True},
        {"surprise": 1},
    ],
)
def test_wrong_specs_are_refused(change):
    with pytest.raises(ValidationError):
        TrialSpec.model_validate({**EXAMPLE, **change})


def test_task_spec_refuses_unknown_options():
    with pytest.raises(ValidationError):
        TaskSpec(name="digits", window=3)
