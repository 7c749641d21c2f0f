"""Trials that balance an LRU as the real system that it is."""

import pytest

from harness.suite import TrialSpec
from harness.suite.fork_family import common_steps
from harness.training.costs.flops import spectrum_flops, truncation_flops
from harness.training.trial import run_trial

from .trials import assert_same, stops_of, table_of, trial_spec

REAL = {"realness": "real"}
ARMS = {
    "in_training": {"kind": "in_training", "tau": 0.2, "end": 0.5, "count": 2},
    "random": {"kind": "in_training", "tau": 0.2, "end": 0.5, "count": 2, "keep": "random"},
    "post_hoc": {"kind": "post_hoc", "tau": 0.2, "finetune_steps": 20},
    "global": {"kind": "post_hoc", "mean_dim": 7.5, "scope": "global"},
    "gain": {"kind": "post_hoc", "state_dims": [6], "method": "singular_perturbation"},
    "hankel": {"kind": "hankel_regularized", "tau": 0.3},
}


def ran(arm, store, **fields):
    spec = trial_spec(arm, **fields)
    if spec.source() is not None and not store.trial(spec.source().trial_id).ended():
        run_trial(spec.source(), store)
    result = run_trial(spec, store)
    assert result["status"] == "completed", result["message"]
    return spec, result["record"]


@pytest.mark.parametrize("name", ARMS)
def test_every_truncating_arm_takes_it(name, store):
    (spec, record), (_, plain) = ran({**ARMS[name], **REAL}, store), ran(ARMS[name], store)
    rows = table_of(store, spec.trial_id, "truncations")
    assert any(row["dim_after"] < row["dim_before"] for row in rows)
    assert all(row["error_bound"] is not None for row in rows)
    if spec.arm.kind == "post_hoc" and "tau" in ARMS[name]:
        assert sum(record["state_dims"]) < sum(plain["state_dims"])


def test_spectra_are_those_of_the_stored_states_whatever_an_arm_balances(store):
    """So that what trials share when they fork is the same."""
    found = [ran({**ARMS["in_training"], **more}, store)[0] for more in ({}, REAL)]
    complex_rows, real_rows = (
        [{k: v for k, v in row.items() if k != "trial_id"} for row in rows]
        for rows in (table_of(store, one.trial_id, "spectra") for one in found)
    )
    before = [row for row in complex_rows if row["step"] < 30]
    assert before
    assert before == real_rows[: len(before)]
    at_the_cut = [[row for row in rows if row["step"] == 30] for rows in (complex_rows, real_rows)]
    assert at_the_cut[0][:2] == at_the_cut[1][:2]  # of both blocks, before it


def test_its_decomposition_is_paid_for(store):
    arm = {"kind": "post_hoc", "state_dims": [6]}
    costs = [ran({**arm, **more}, store)[1]["flops_method"] for more in ({}, REAL)]
    further = sum(
        sign * (spectrum_flops(n, 8, is_real) + truncation_flops(n, 6, 8, is_real))
        for sign, is_real in ((1, True), (-1, False))
        for n in (16, 12)
    )
    assert further > 0
    assert costs[1] - costs[0] == pytest.approx(further)


@pytest.mark.parametrize("name", ["in_training", "post_hoc", "hankel"])
def test_stopped_at_every_boundary_it_ends_bit_identical(name, store, tmp_path):
    whole = type(store).open(tmp_path / "whole")
    fields = {"training": {"steps": 60}, "model": {"dropout": 0.1}}
    spec, _ = ran({**ARMS[name], **REAL}, whole, **fields)
    if spec.source() is not None:
        ran({"kind": "full"}, store, **fields)
    assert stops_of(spec, store)
    assert_same(store, whole, spec.trial_id)


def test_what_is_shared_ends_where_the_difference_begins():
    def step(name):
        return common_steps(*(trial_spec({**ARMS[name], **more}) for more in ({}, REAL)))

    assert step("in_training") == 30  # at the first truncation
    assert not step("hankel")  # whose penalty is another from the start


def test_ids_of_trials_without_it_are_those_of_trials_that_say_nothing():
    plain, said = (
        trial_spec({"kind": "in_training", **more}) for more in ({}, {"realness": "complex"})
    )
    assert plain.trial_id == said.trial_id
    assert "realness" not in said.model_dump(mode="json")["arm"]
    real = trial_spec({"kind": "in_training", **REAL})
    assert real.trial_id != plain.trial_id
    assert real.model_dump(mode="json")["arm"]["realness"] == "real"
    assert TrialSpec.model_validate_json(real.model_dump_json()) == real


@pytest.mark.parametrize(
    ("arm", "model", "message"),
    [
        ({"kind": "in_training"}, {"kind": "s5"}, "s5 as it is here is balanced as a real system"),
        ({"kind": "in_training"}, {"kind": "s4d"}, "realness real is for states without conjugate"),
        (
            {"kind": "in_training", "moments": "reset"},
            {"kind": "mamba"},
            "in_training with realness real needs a layer that gives its system; mamba gives none",
        ),
        ({"kind": "in_training"}, {"kind": "gru"}, "gru gives none"),
        ({"kind": "post_hoc", "tau": 0.1, "method": "last"}, {}, "not with method last: a mode is"),
        ({"kind": "post_hoc", "mean_dim": 3, "method": "modal"}, {}, "worth the same"),
        ({"kind": "small", "state_dims": [3]}, {}, "realness"),
        ({"kind": "in_training", "realness": "both"}, {}, "'complex' or 'real'"),
    ],
)
def test_what_it_cannot_go_with_is_refused(arm, model, message):
    with pytest.raises(ValueError, match=message):
        trial_spec({**REAL, **arm}, model={"state_dim": 8, **model})


def test_states_without_conjugates_are_taken_whatever_their_kind():
    model = {"kind": "s5", "conj_sym": False, "hippo_blocks": 2, "state_dim": 8}
    assert trial_spec({"kind": "in_training", **REAL}, model=model).arm.balances_as == "real"
