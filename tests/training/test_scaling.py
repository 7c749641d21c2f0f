"""Trials whose truncations leave states with B and C of equal norm."""

import pytest
import torch

from harness.api.stores import open_store
from harness.suite import TrialSpec
from harness.suite.fork_family import common_steps

from .test_realness import ran
from .trials import assert_same, stops_of, table_of, trial_spec

EQUAL = {"scaling": "equal"}
SMOOTH = {"gramians": "signal", "calibration": 16}
ARMS = {
    "in_training": {"kind": "in_training", "tau": 0.2, "end": 0.5, "count": 2},
    "smallest": {"kind": "in_training", "tau": 0.2, "end": 0.5, "count": 2, "keep": "smallest"},
    "signal": {"kind": "in_training", "tau": 0.2, "end": 0.5, "count": 2, **SMOOTH},
    "post_hoc": {"kind": "post_hoc", "tau": 0.2, "finetune_steps": 20},
    "gain": {"kind": "post_hoc", "state_dims": [6], "method": "singular_perturbation"},
    "refit": {"kind": "post_hoc", "state_dims": [6], "refit": "C", "calibration": 16},
    "hankel": {"kind": "hankel_regularized", "tau": 0.3},
}


def rows_of(spec, store):
    """What truncations did, without what an evaluation says of their result."""
    left_out = ("trial_id", "val_before", "val_after", "output_error", "weighted_singular_values")
    rows = table_of(store, spec.trial_id, "truncations")
    return [{k: v for k, v in row.items() if k not in left_out} for row in rows]


@pytest.mark.parametrize("name", ARMS)
def test_every_truncating_arm_takes_it(name, store):
    one, two = (ran({**ARMS[name], **more}, store)[0] for more in (EQUAL, {}))
    first, other = (rows_of(spec, store)[0] for spec in (one, two))
    assert first == other  # the same states of the same model go
    assert first["dim_after"] < first["dim_before"]


@pytest.mark.parametrize("gramians", ["white", "signal"])
def test_its_states_have_B_and_C_of_equal_norm(gramians, store):
    """Without a step after the truncation, which would change them."""
    arm = {"kind": "post_hoc", "state_dims": [6], "gramians": gramians, "calibration": 16}
    for more, equal in ((EQUAL, True), ({}, False)):
        spec, _ = ran({**arm, **more}, store)
        for block in open_store(store.root).load_model(spec.trial_id).blocks:
            _, B, C = block.ssm.system()
            assert torch.allclose(B.norm(dim=1), C.norm(dim=0), rtol=1e-5) == equal


@pytest.mark.parametrize("name", ["in_training", "signal", "post_hoc"])
@pytest.mark.parametrize("kind", ["lru", "s4d"])
def test_stopped_at_every_boundary_it_ends_bit_identical(name, kind, store, tmp_path):
    whole = type(store).open(tmp_path / "whole")
    fields = {"training": {"steps": 60}, "model": {"dropout": 0.1, "kind": kind}}
    spec, _ = ran({**ARMS[name], **EQUAL}, whole, **fields)
    if spec.source() is not None:
        ran({"kind": "full"}, store, **fields)
    assert stops_of(spec, store)
    assert_same(store, whole, spec.trial_id)


@pytest.mark.parametrize("name", ["in_training", "signal"])
def test_what_is_shared_ends_with_the_first_truncation(name):
    assert common_steps(*(trial_spec({**ARMS[name], **more}) for more in ({}, EQUAL))) == 30


def test_ids_of_trials_without_it_are_those_of_trials_that_say_nothing():
    plain, said = (
        trial_spec({"kind": "in_training", **more}) for more in ({}, {"scaling": "gramians"})
    )
    assert plain.trial_id == said.trial_id
    assert "scaling" not in said.model_dump(mode="json")["arm"]
    equal = trial_spec({"kind": "in_training", **EQUAL})
    assert equal.trial_id != plain.trial_id
    assert equal.model_dump(mode="json")["arm"]["scaling"] == "equal"
    assert TrialSpec.model_validate_json(equal.model_dump_json()) == equal


@pytest.mark.parametrize(
    ("arm", "model", "message"),
    [
        (
            {"kind": "in_training", "moments": "reset"},
            {"kind": "mamba"},
            "in_training with scaling equal needs a layer that gives its system; mamba gives none",
        ),
        ({"kind": "in_training"}, {"kind": "gru"}, "gru gives none"),
        ({"kind": "in_training", "keep": "random"}, {}, "not with keep random: modes stay"),
        ({"kind": "post_hoc", "tau": 0.1, "method": "last"}, {}, "not with last: modes stay"),
        ({"kind": "post_hoc", "mean_dim": 3, "method": "modal"}, {}, "not with modal: modes stay"),
        ({"kind": "small", "state_dims": [3]}, {}, "scaling"),
        ({"kind": "in_training", "scaling": "none"}, {}, "'gramians' or 'equal'"),
    ],
)
def test_what_it_cannot_go_with_is_refused(arm, model, message):
    with pytest.raises(ValueError, match=message):
        trial_spec({**EQUAL, **arm}, model={"state_dim": 8, **model})
