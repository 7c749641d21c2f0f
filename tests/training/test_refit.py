"""Trials whose truncation is fitted to the full layers' outputs afterwards."""

import json

import pytest

from harness.suite import TrialSpec
from harness.training import calibration
from harness.training.costs.flops import forward_flops, orders_flops
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


EXAMPLES, HELD_OUT, STEPS, WIDTH, SIZES = 40, 10, 64, 8, (16, 12)


def fitting_c(orders):
    """FLOPs of refitting C, by hand: states of both systems and the regressors, which are the
    reduced states once more, both outputs, the moments, and a solution."""
    found = 0.0
    for n, r in zip(SIZES, orders, strict=True):
        run = 4 * (n + 2 * r) * WIDTH + 8 * (n + 2 * r) + 4 * (n + r) * WIDTH
        moments = 8 * r * r + 4 * WIDTH * r
        found += EXAMPLES * STEPS * (run + moments) + (2 * r) ** 3 / 3 if r != n else 0.0
    return found


def test_what_a_refit_of_c_costs_is_the_sum_of_its_parts(store):
    costs = [ran({**CUT, **more}, store)[1]["flops_method"] for more in ({}, {"refit": "C"})]
    forward = forward_flops(FULL.model, FULL.task.info, SIZES)
    outputs = sum(4 * (n + 5) * (WIDTH + WIDTH) + 8 * (n + 5) for n in SIZES)
    wanted = (EXAMPLES + HELD_OUT) * forward + fitting_c((5, 5)) + HELD_OUT * STEPS * outputs
    assert costs[1] - costs[0] == pytest.approx(wanted, rel=1e-9)


def test_candidates_of_a_bound_are_refitted_and_paid_for(store, monkeypatch):
    seen, within = [], calibration.orders_within

    def watched(*given):
        orders, measured = within(*given)
        seen.append((given[1], measured))
        return orders, measured

    monkeypatch.setattr(calibration, "orders_within", watched)
    bound = {**CUT, "state_dims": None, "max_loss": 0.05, "refit": "C"}
    rows, record = ran(bound, store)
    sizes = [row["dim_after"] for row in rows]
    ((decomposed, measured),) = seen
    assert len(measured) > 2
    model, info = FULL.model, FULL.task.info
    candidates = sum(
        HELD_OUT * forward_flops(model, info, one)
        + orders_flops(decomposed, one)
        + EXAMPLES * forward_flops(model, info, SIZES)
        + fitting_c(one)
        for one in measured
    )
    given = ran({**bound, "max_loss": None, "state_dims": sizes}, store)[1]
    assert record["flops_method"] - given["flops_method"] == pytest.approx(candidates, rel=1e-9)


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
