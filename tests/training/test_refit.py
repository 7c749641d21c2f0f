"""Trials whose truncation is fitted to the full layers' outputs afterwards."""

import json

import pytest

from harness.suite import TrialSpec
from harness.training.trial import run_trial

from .trials import table_of, trial_spec

CUT = {"kind": "post_hoc", "state_dims": [5], "calibration": 40}
FULL = trial_spec({"kind": "full"})


def ran(arm, store):
    spec = trial_spec(arm)
    if spec.source() is not None and not store.trial(FULL.trial_id).ended():
        run_trial(FULL, store)
    result = run_trial(spec, store)
    assert result["status"] == "completed", result["message"]
    return table_of(store, spec.trial_id, "truncations"), result["record"]


@pytest.mark.parametrize(
    "arm",
    [
        {"kind": "in_training", "tau": 0.2, "end": 0.5, "refit": "C"},
        {"kind": "in_training", "tau": 0.2, "end": 0.5, "keep": "random", "refit": "C+gain"},
        {"kind": "hankel_regularized", "tau": 0.3, "refit": "BC", "gramians": "signal"},
        {"kind": "post_hoc", "tau": 0.3, "method": "aire", "refit": "C", "finetune_steps": 5},
        {**CUT, "max_loss": 0.05, "state_dims": None, "refit": "C"},
    ],
)
def test_every_truncating_arm_takes_it_and_records_what_it_did(arm, store):
    rows, _ = ran({"calibration": 40, **arm}, store)
    assert rows
    for row in rows:
        if row["dim_after"] < row["dim_before"]:
            assert row["refit"] == arm["refit"]
            assert row["error_bound"] is None
            assert 0.0 < row["output_error"] < 1.0
        else:
            assert row["refit"] is None
    gramians = "signal/white" if arm.get("gramians") else None
    assert {row["gramians"] for row in rows} == {gramians}


@pytest.mark.parametrize("protocol", ["strict", "published"])
def test_a_roll_back_takes_the_gain_away_again(protocol, store):
    arm = {
        "kind": "in_training",
        "rule": "pragmatic",
        "fraction": 0.5,
        "tolerance": 0.0,
        "end": 1.0,
        "count": 3,
        "refit": "gain",
        "calibration": 40,
    }
    spec = trial_spec(arm, training={"protocol": protocol})
    assert run_trial(spec, store)["status"] == "completed"
    rows = table_of(store, spec.trial_id, "truncations")
    before = [row["step"] for row in rows if row["dim_after"] < row["dim_before"]]
    back = {row["step"] for row in rows if row["dim_after"] > row["dim_before"]}
    assert back
    description = json.loads((store.trial(spec.trial_id).path / "model.json").read_text())
    selected = store.trial(spec.trial_id).result()["record"]["selected_step"]
    has_gain = "gains" in description
    assert has_gain == (len(set(before)) > len(back) and selected >= min(before))


def test_it_costs_its_passes_and_products(store):
    costs = {}
    for fits, weight in (("none", "uniform"), ("C", "uniform"), ("BC", "uniform"), ("C", "task")):
        _, record = ran({**CUT, "refit": fits, "refit_weight": weight}, store)
        costs[fits, weight] = record["flops_method"]
    plain, c = costs["none", "uniform"], costs["C", "uniform"]
    moments = 40 * 64 * 2 * 8 * 5**2  # those of two blocks, on 40 sequences of 64 steps
    assert c - plain > moments
    assert costs["BC", "uniform"] - plain > moments * 8**2
    passes = costs["C", "task"] - c  # a backward pass is twice a forward pass
    assert passes == pytest.approx(2 * 40 * FULL.model.layer_flops(14) * 64 * 2, rel=0.3)


def test_ids_of_trials_without_it_are_those_of_trials_that_say_nothing():
    plain = trial_spec({"kind": "in_training", "gramians": "signal"})
    none = trial_spec({"kind": "in_training", "gramians": "signal", "refit": "none"})
    assert plain.trial_id == none.trial_id
    assert "refit" not in none.model_dump(mode="json")["arm"]
    assert "refit_weight" not in none.model_dump(mode="json")["arm"]
    ids = {trial_spec({"kind": "in_training", "refit": f}).trial_id for f in ("none", "C", "BC")}
    assert len(ids) == 3


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"kind": "in_training", "refit": "D"}, "refit"),
        ({"kind": "in_training", "refit_weight": "task"}, "say what to `refit`"),
        (
            {"kind": "in_training", "refit": "C", "calibration": 100_000},
            r"arm\.calibration 100000 needs 125000 training examples",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_its_spec(arm, message):
    with pytest.raises(ValueError, match=message):
        TrialSpec(task={"name": "digits"}, model={"kind": "lru"}, arm=arm)
