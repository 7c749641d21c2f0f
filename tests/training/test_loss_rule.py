"""In-training truncation to the smallest sizes under a bound on the loss."""

import copy

import pytest

from harness import tasks
from harness.arms import InTrainingSpec
from harness.arms.rank_rules import RULES, register
from harness.reduction import Weighting, truncate
from harness.reduction.within import mean_loss
from harness.suite import TrainingSpec
from harness.training import calibration as module
from harness.training.costs.flops import forward_flops, orders_flops, truncation_flops
from harness.training.trial import run_trial

from .trials import record_of, table_of, trial_spec, weights_of

ARM = {"kind": "in_training", "rule": "loss", "max_loss": 0.05, "end": 0.6, "count": 2,
       "calibration": 40}  # fmt: skip


@pytest.fixture
def events(monkeypatch):
    """What every event was asked, measured and answered: dicts, in order."""
    seen = []
    within = module.orders_within

    def watched(model, decomposed, max_loss, calibration, weighting, refit, realness):
        orders, measured = within(
            model, decomposed, max_loss, calibration, weighting, refit, realness
        )
        candidate = copy.deepcopy(model)
        truncate(
            candidate,
            state_dims=orders,
            decomposed=decomposed,
            gramians=weighting,
            calibration=calibration,
        )
        seen.append(
            {
                "max_loss": max_loss,
                "orders": orders,
                "measured": measured,
                "decomposed": decomposed,
                "weighting": weighting,
                "rise": mean_loss(candidate, calibration) - mean_loss(model, calibration),
            }
        )
        return orders, measured

    monkeypatch.setattr(module, "orders_within", watched)
    return seen


@pytest.mark.parametrize("gramians", ["white", "task"])
def test_every_event_stays_under_the_bound_and_is_what_the_trial_does(gramians, events, store):
    spec = trial_spec({**ARM, "gramians": gramians})
    assert run_trial(spec, store)["status"] == "completed"
    assert len(events) == 2
    rows = table_of(store, spec.trial_id, "truncations")
    for event, step in zip(events, spec.arm.events(120), strict=True):
        assert event["max_loss"] == spec.arm.max_loss == 0.05
        assert event["rise"] <= 0.05
        assert event["weighting"] == (spec.arm.weighting or Weighting())
        now = [one.order for one in event["decomposed"]]
        assert event["measured"][0] == tuple(now)
        if event["orders"] != now:
            here = [row for row in rows if row["step"] == step]
            assert [row["dim_after"] for row in here] == event["orders"]
            assert {row["tau"] for row in here} == {None}
    assert sum(events[-1]["orders"]) < 28
    wide = trial_spec({**ARM, "max_loss": 1e6, "gramians": gramians})
    assert run_trial(wide, store)["record"]["state_dims"] == [1, 1]


def test_measuring_leaves_the_training_alone_and_its_cost_is_counted(events, store):
    """Against a rule that is told the same sizes and measures nothing."""
    dropout = {"dropout": 0.1}
    spec = trial_spec(ARM, model=dropout)
    result = run_trial(spec, store)
    wanted, info = 0.0, tasks.build(spec.data).info
    for event in events:
        for orders in event["measured"]:
            assert all(isinstance(n, int) for n in orders)
            wanted += 10 * forward_flops(spec.model, info, orders)
            wanted += orders_flops(event["decomposed"], orders)
    told = iter([event["orders"] for event in events])
    register("told", lambda arm, systems, event: next(told))
    try:
        plain = trial_spec({**ARM, "rule": "told", "max_loss": None}, model=dropout)
        other, trial_id = run_trial(plain, store), plain.trial_id
    finally:
        del RULES["told"]
    assert weights_of(store, spec.trial_id) == weights_of(store, trial_id)
    for name in ("curves", "spectra", "truncations"):
        one, two = (table_of(store, which, name) for which in (spec.trial_id, trial_id))
        assert [{**row, "trial_id": trial_id} for row in one] == two
    cost, without = (one["record"]["flops_method"] for one in (result, other))
    assert wanted > 0.0
    assert cost - without == pytest.approx(wanted, rel=1e-9)
    same = [record_of(one) for one in (result, other)]
    assert same[0]["train_flops"] == same[1]["train_flops"]


def test_a_candidate_costs_what_its_blocks_do(events, store):
    run_trial(trial_spec(ARM), store)
    decomposed = events[0]["decomposed"]
    assert orders_flops(decomposed, [16, 12]) == 0.0
    assert orders_flops(decomposed, [5, 12]) == truncation_flops(16, 5, 8)
    both = truncation_flops(16, 5, 8) + truncation_flops(12, 3, 8)
    assert orders_flops(decomposed, (5, 3)) == both


def test_arms_share_their_first_event_whatever_the_others_are():
    training = TrainingSpec(steps=600, evaluate_every=100)
    arm = {"rule": "loss", "max_loss": 0.1}
    once = InTrainingSpec(**arm, end=0.25, count=1).event_keys(training)
    twice = InTrainingSpec(**arm, end=0.5, count=2).event_keys(training)
    assert [at for at, _ in twice] == [150, 300]
    assert once[0] == twice[0]
    other = InTrainingSpec(rule="loss", max_loss=0.2, end=0.25, count=1).event_keys(training)
    assert once[0] != other[0]


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"max_loss": None}, "rule loss needs `max_loss`, in the units of the loss"),
        ({"rule": "energy"}, "`max_loss` belongs to rule loss, not to energy"),
        ({"gate": 0.05}, "leaves no room for a `gate`"),
        ({"keep": "smallest"}, "goes with the largest states, not with keep smallest"),
        ({"max_loss": -0.1}, "max_loss"),
        ({"calibration": 100_000}, r"arm\.calibration 100000 needs 125000 training examples"),
    ],
)
def test_what_does_not_fit_is_refused(arm, message):
    with pytest.raises(ValueError, match=message):
        trial_spec({**ARM, **arm})


def test_a_spec_that_says_nothing_of_a_bound_is_as_it_was():
    assert "max_loss" not in trial_spec({"kind": "in_training"}).model_dump(mode="json")["arm"]
