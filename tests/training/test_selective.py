"""Trials of selective layers: what a truncation records and costs, and which arms are refused."""

import pytest

from harness.cli.app import execute
from harness.records.store import Store
from harness.suite import TrialSpec
from harness.training.costs.flops import (
    averaging_flops,
    forward_flops,
    head_averaging_flops,
    shares_flops,
    truncation_flops,
)
from harness.training.trial import run_trial

from .trials import table_of, trial_spec

MAMBA = {"kind": "mamba", "width": 4, "state_dim": [8, 6]}
TRAINING = {"steps": 40, "evaluate_every": 20}


def mamba(arm, **training):
    return trial_spec(arm, model=MAMBA, training={**TRAINING, **training})


def test_an_event_says_what_it_was_ranked_by_and_what_it_cost(tmp_path):
    store = Store.open(tmp_path)
    arm = {"kind": "in_training", "tau": 0.2, "end": 0.5, "count": 1, "calibration": 40}
    rows, costs = {}, {}
    for how in ("mean_modes", "second_moment"):
        spec = mamba({**arm, "selective": how})
        found = run_trial(spec, store)
        assert found["status"] == "completed", found["message"]
        rows[how] = table_of(store, spec.trial_id, "truncations")
        record = found["record"]
        costs[how] = record["flops_method"] - record["train_flops"]
        assert table_of(store, spec.trial_id, "spectra") == []
        for row, n in zip(rows[how], (8, 6), strict=True):
            assert row["gramians"] == how
            assert row["dim_before"] == n > row["dim_after"] >= 1
            assert 0.0 < row["output_error"] < 2.0
            assert row["error_bound"] is row["orders_after"] is None
            worth = row["weighted_singular_values"]
            assert worth == sorted(worth, reverse=True)
            kept = sum(worth[: row["dim_after"]]) / sum(worth)
            assert row["energy_kept"] == pytest.approx(kept)
            assert kept >= 0.8
    a, b = rows.values()
    assert a[0]["weighted_singular_values"] != b[0]["weighted_singular_values"]
    # 40 examples and 10 held out through the model, means over 40 x 64 steps, shares, and on the
    # held-out ones the recurrences once more.
    spec = mamba(arm)
    passes = 50 * forward_flops(spec.model, spec.task.info, [8, 6])
    means = 40 * 64 * (averaging_flops(8, 8) + averaging_flops(8, 6))
    shares = shares_flops(8, 8) + shares_flops(8, 6)
    errors = 10 * 64 * 6 * 8 * (8 + 6)
    wanted = passes + means + shares + errors
    assert costs == {"mean_modes": wanted, "second_moment": wanted}


def test_an_event_of_layers_with_heads(tmp_path):
    store = Store.open(tmp_path)
    arm = {"kind": "in_training", "tau": 0.2, "end": 0.5, "count": 1, "calibration": 40}
    model = {"kind": "mamba2", "width": 4, "expand": 3, "head_dim": 3, "groups": 2}
    model["state_dim"] = [8, 6]
    costs = {}
    for how in ("mean_modes", "second_moment", "activation"):
        spec = trial_spec({**arm, "selective": how}, model=model, training=TRAINING)
        found = run_trial(spec, store)
        assert found["status"] == "completed", found["message"]
        record = found["record"]
        costs[how] = record["flops_method"] - record["train_flops"]
        for row, n in zip(table_of(store, spec.trial_id, "truncations"), (8, 6), strict=True):
            assert row["gramians"] == how
            assert row["dim_before"] == n > row["dim_after"] >= 1
            assert 0.0 < row["output_error"] < 2.0
            worth = row["weighted_singular_values"]
            assert worth == sorted(worth, reverse=True)
            assert len(worth) == n
            kept = sum(worth[: row["dim_after"]]) / sum(worth)
            assert row["energy_kept"] == pytest.approx(kept)
            assert kept >= 0.8
    # As above, with shares of two groups, or none, in place of every channel, and 12 channels whose
    # recurrence takes 5 FLOPs a state.
    passes = 50 * forward_flops(spec.model, spec.task.info, [8, 6])
    means = 40 * 64 * sum(head_averaging_flops(4, 2, n) for n in (8, 6))
    shares = shares_flops(2, 8) + shares_flops(2, 6)
    errors = 10 * 64 * 5 * 12 * (8 + 6)
    assert costs == {
        "mean_modes": passes + means + errors,
        "second_moment": passes + means + shares + errors,
        "activation": passes + 40 * 64 * 7 * 12 * (8 + 6) + errors,
    }


@pytest.mark.parametrize("kind", ["mamba", "mamba2"])
@pytest.mark.parametrize("how", ["taylor", "drrqr"])
def test_an_event_by_a_rival(how, kind, tmp_path):
    store = Store.open(tmp_path)
    arm = {"kind": "in_training", "tau": 0.2, "end": 0.5, "count": 1, "calibration": 40}
    model = {"kind": kind, "width": 4, "state_dim": [8, 6]}
    model |= {"head_dim": 4, "groups": 2} if kind == "mamba2" else {}
    spec = trial_spec({**arm, "selective": how}, model=model, training=TRAINING)
    found = run_trial(spec, store)
    assert found["status"] == "completed", found["message"]
    for row, n in zip(table_of(store, spec.trial_id, "truncations"), (8, 6), strict=True):
        assert row["gramians"] == how
        assert row["dim_before"] == n > row["dim_after"] >= 1
        assert 0.0 < row["output_error"] < 2.0
        worth = row["weighted_singular_values"]
        assert worth == sorted(worth, reverse=True)
        if how == "taylor":
            kept = sum(worth[: row["dim_after"]]) / sum(worth)
            assert row["energy_kept"] == pytest.approx(kept)
    # 40 examples, and 10 held out, through the model; then the former back, and through the layers
    # once more both ways; or the QR of 2 x 2,500 sampled rows in each group.
    forward = forward_flops(spec.model, spec.task.info, [8, 6])
    wanted = 50 * forward + 10 * 64 * (6 if kind == "mamba" else 5) * 8 * (8 + 6)
    if how == "taylor":
        wanted += 40 * 2 * forward
        wanted += 40 * 64 * 3 * sum(map(spec.model.layer_flops, (8, 6)))
    else:
        groups = 1 if kind == "mamba" else 2
        wanted += groups * 2 * (2 * 2500) * (8**2 + 6**2)
    record = found["record"]
    assert record["flops_method"] - record["train_flops"] == wanted


def test_a_bound_on_the_loss_finds_sizes(tmp_path):
    store = Store.open(tmp_path)
    arm = {"kind": "in_training", "rule": "loss", "max_loss": 5.0, "end": 0.5, "count": 1}
    found = run_trial(mamba({**arm, "calibration": 40}), store)
    assert found["record"]["state_dims"] == [1, 1]


def test_ids_do_not_know_of_what_stands_in_for_a_system():
    for model in ({}, {"kind": "s5"}, {"kind": "s4d"}):
        plain = trial_spec({"kind": "in_training"}, model=model)
        said = trial_spec({"kind": "in_training", "selective": "mean_modes"}, model=model)
        assert plain.trial_id == said.trial_id
        assert "selective" not in said.model_dump(mode="json")["arm"]
    other = mamba({"kind": "in_training", "selective": "second_moment"})
    assert other.trial_id != mamba({"kind": "in_training"}).trial_id


ARMS = (
    {"kind": "in_training"},
    {"kind": "post_hoc", "tau": 0.1},
    {"kind": "hankel_regularized", "tau": 0.1},
)
BEFORE = {  # the ids that these arms had before there was a Mamba
    "lru": ("cc730803714272fe", "f7a30f29c5f77c9f", "2a4d8157b2da493d"),
    "s5": ("5135ced1b55d5f81", "88bf3f24b9e5b747", "45558cc2314233aa"),
    "s4d": ("cd3f6180dde63e54", "b25cb50488848cc0", "810ad3600f222500"),
}


@pytest.mark.parametrize("kind", BEFORE)
def test_ids_of_other_kinds_are_what_they_were(kind):
    task, model = {"name": "digits"}, {"kind": kind}
    found = [TrialSpec(task=task, model=model, arm=arm).trial_id for arm in ARMS]
    assert tuple(found) == BEFORE[kind]


NONE = "needs a layer that gives its system; mamba gives none"
REFUSED = {
    "regularised": ({"kind": "hankel_regularized", "tau": 0.1}, f"arm hankel_regularized {NONE}"),
    "last": (
        {"kind": "post_hoc", "tau": 0.1, "method": "last"},
        f"arm post_hoc with method last {NONE}",
    ),
    "modal": (
        {"kind": "post_hoc", "mean_dim": 3.0, "method": "modal"},
        f"arm post_hoc with method modal {NONE}",
    ),
    "gain": (
        {"kind": "post_hoc", "tau": 0.1, "method": "singular_perturbation"},
        f"with method singular_perturbation {NONE}",
    ),
    "gramians": (
        {"kind": "in_training", "gramians": "signal"},
        f"arm in_training with gramians other than white {NONE}",
    ),
    "refit": ({"kind": "in_training", "refit": "C"}, f"arm in_training with refit C {NONE}"),
    "calibration": (
        {"kind": "in_training", "calibration": 100_000},
        "arm.calibration 100000 needs 125000 training examples, held-out ones included, more than",
    ),
    "own basis": (
        {"kind": "in_training", "selective": "mean_lti"},
        "selective mean_lti does not go with the model's basis own, in which a truncation removes",
    ),
    "unknown": ({"kind": "in_training", "selective": "median"}, "selective"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_selective_layer_cannot_do_is_refused_before_anything_starts(case):
    arm, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        mamba(arm)


@pytest.mark.parametrize(
    ("model", "how", "message"),
    [
        (
            {"kind": "mamba"},
            "mean_modes",
            "selective mean_modes does not go with the model's basis",
        ),
        ({"kind": "mamba2"}, "mean_lti", "selective mean_lti would keep one state of a layer with"),
        ({"kind": "mamba", "state_dim": [8, 6]}, "mean_lti", "basis free needs one state_dim for"),
    ],
)
def test_what_a_free_basis_cannot_do_is_refused_before_anything_starts(model, how, message):
    with pytest.raises(ValueError, match=message):
        trial_spec(
            {"kind": "in_training", "selective": how},
            model={"state_dim": 8, "basis": "free", **model},
        )


def test_what_a_free_basis_costs_and_records(tmp_path):
    store = Store.open(tmp_path)
    arm = {"kind": "in_training", "tau": 0.1, "end": 0.5, "count": 1, "calibration": 40}
    model = {"kind": "mamba", "width": 4, "state_dim": 8, "blocks": 1, "basis": "free"}
    spec = trial_spec({**arm, "selective": "mean_lti"}, model=model, training=TRAINING)
    found = run_trial(spec, store)
    assert found["status"] == "completed", found["message"]
    (row,) = table_of(store, spec.trial_id, "truncations")
    orders = row["orders_after"]
    assert len(orders) == 8
    assert row["dim_after"] == max(orders) < 8
    assert row["gramians"] == "mean_lti"
    assert 0.0 < row["output_error"] < 2.0
    assert row["error_bound"] is None
    # 40 examples and 10 held out through the model; of each of 8 channels decays at 8 and 48 rates
    # and inputs of 8 features; its decomposition, real, and its truncation; and on the held-out
    # examples its recurrence before, and after with its maps from 8 features.
    record = found["record"]
    cost = record["flops_method"] - record["train_flops"]
    passes = 50 * forward_flops(spec.model, spec.task.info, [8])
    means = 40 * 64 * 8 * (3 * (8 + 48) + 2 * 8)
    shares = shares_flops(8, 8)
    cuts = sum(truncation_flops(8, r, 1) / 4 for r in orders if r < 8)
    errors = 10 * 64 * sum(6 * (8 + r) + 4 * 8 * (r if r < 8 else 0) for r in orders)
    assert cost == pytest.approx(passes + means + shares + cuts + errors)
    # Steps after the event, whose ragged orders share the cost of a layer.
    after = sum(spec.model.layer_flops(r) for r in orders) / 8
    assert spec.model.layer_flops(8) < after  # maps cost more than states save
    again = trial_spec({"kind": "small", "state_dims": [3]}, model=model, training=TRAINING)
    own = {**model, "basis": "own"}
    same = trial_spec({"kind": "small", "state_dims": [3]}, model=own, training=TRAINING)
    assert again.resolved().model == same.resolved().model


def test_a_stand_in_is_for_layers_without_a_system():
    with pytest.raises(
        ValueError, match=r"arm\.selective second_moment is for selective layers; lru"
    ):
        trial_spec({"kind": "in_training", "selective": "second_moment"})


SUITE = """
from harness.suite import *

suite = Suite(
    name="refused",
    comparisons=[
        Comparison(
            task=TaskSpec(name="digits"),
            model=ModelSpec(**MODEL),
            arms={"full": FullSpec(), "rival": PostHocSpec(tau=0.1, method=METHOD)},
        )
    ],
)
"""


@pytest.mark.parametrize(
    ("model", "method", "message"),
    [
        ({}, "last", f"arm post_hoc with method last {NONE}"),
        ({"width": 4, "dt_rank": 9}, "balanced", "dt_rank 9 is above the 8 channels"),
        ({"state_dim": 0}, "balanced", "state_dim"),
        ({"kind": "mamba2", "head_dim": 48}, "balanced", "head_dim 48 does not divide the 64 chan"),
        ({"kind": "mamba2", "groups": 2}, "balanced", "groups 2 must divide the heads, of which"),
    ],
)
def test_by_the_command_line_in_one_line(tmp_path, monkeypatch, capsys, model, method, message):
    monkeypatch.setenv("HARNESS_STORE", str(tmp_path / "store"))
    path = tmp_path / "refused.py"
    text = SUITE.replace("METHOD", repr(method))
    path.write_text(text.replace("MODEL", repr({"kind": "mamba", **model})))
    assert execute(["run", str(path)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "store").exists()
