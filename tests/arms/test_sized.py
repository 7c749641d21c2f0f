"""The arms that are given a size: post_hoc and small; and full, which has its model's."""

import numpy as np
import pytest
from pydantic import ValidationError

from harness.arms import (
    ARMS,
    DistillSpec,
    Event,
    FullSpec,
    HankelRegularizedSpec,
    PostHocSpec,
    SmallSpec,
)
from harness.suite import TrialSpec
from tests.reduction.systems import with_hsv

SPECTRA = [np.array([4.0, 3.0, 2.0, 1.0]), np.array([97.0, 1.0, 1.0, 0.5, 0.5])]
MATCH = {"match": "seed", "to": {"kind": "in_training", "tau": 0.2}}


def post_hoc(**fields):
    return PostHocSpec(kind="post_hoc", **fields)


def ranks_of(arm, spectra=SPECTRA):
    return arm.ranks([with_hsv(*hsv) for hsv in spectra], Event())


def trial(arm, **fields):
    return TrialSpec(task={"name": "digits"}, arm=arm, **fields)


def test_every_arm_is_listed_once_under_its_kind():
    kinds = [spec.model_fields["kind"].annotation.__args__ for spec in ARMS]
    assert kinds == [
        (kind,)
        for kind in ("full", "in_training", "post_hoc", "small", "distill", "hankel_regularized")
    ]


@pytest.mark.parametrize(
    ("arm", "events", "needs_full", "train_steps"),
    [
        (FullSpec(kind="full"), (), False, 600),
        (SmallSpec(kind="small", state_dims=(3,)), (), False, 600),
        (post_hoc(tau=0.1), (0,), True, 0),
        (post_hoc(tau=0.1, finetune_steps=60), (0,), True, 60),
        (post_hoc(tau=0.1, finetune_share=0.25), (0,), True, 150),
        (post_hoc(tau=0.1, finetune_share=1e-6), (0,), True, 1),
        (post_hoc(**MATCH), (0,), True, 0),
        (DistillSpec(kind="distill", state_dims=(3,)), (), True, 600),
        (HankelRegularizedSpec(kind="hankel_regularized", tau=0.1), (600,), False, 600),
    ],
)
def test_when_they_act_and_on_what(arm, events, needs_full, train_steps):
    assert arm.events(600) == events
    assert arm.needs_full is needs_full
    assert arm.train_steps(600) == train_steps


def test_full_and_small_leave_the_states_alone():
    for arm in (FullSpec(kind="full"), SmallSpec(kind="small", state_dims=(3,))):
        assert ranks_of(arm) == [4, 5]


@pytest.mark.parametrize(
    ("fields", "ranks"),
    [
        ({"tau": 0.1}, [3, 1]),
        ({"tau": 0.0}, [4, 5]),
        ({"state_dims": [2, 3]}, [2, 3]),
        ({"state_dims": [3]}, [3, 3]),  # one for all
        ({"state_dims": [4, 5]}, [4, 5]),
    ],
)
def test_ranks_of_post_hoc(fields, ranks):
    assert ranks_of(post_hoc(**fields)) == ranks
    if "tau" not in fields or fields["tau"] is None:
        return
    regularized = HankelRegularizedSpec(kind="hankel_regularized", **fields)
    assert ranks_of(regularized) == ranks


@pytest.mark.parametrize(
    ("dims", "message"), [([5], "block 0: order must be from 1 to 4, not 5"), ([4, 6], "block 1")]
)
def test_more_states_than_there_are_is_refused_and_not_cut(dims, message):
    with pytest.raises(ValueError, match=message):
        ranks_of(post_hoc(state_dims=dims))


@pytest.mark.parametrize("match", ["seed", "mean"])
def test_a_matching_post_hoc_arm_has_no_ranks_before_the_plan_gives_them(match):
    with pytest.raises(ValueError, match="plan to resolve its sizes"):
        ranks_of(post_hoc(**{**MATCH, "match": match}))


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("post_hoc", {}, "one of `tau`, `mean_dim`, `state_dims`, or `match` with"),
        ("post_hoc", {"tau": 0.1, "state_dims": [3]}, "exactly one of"),
        ("post_hoc", {"tau": 0.1, **MATCH}, "exactly one of"),
        ("post_hoc", {"state_dims": [3], **MATCH}, "exactly one of"),
        ("post_hoc", {"match": "seed"}, "`match` and `to` .* go together"),
        ("post_hoc", {"to": MATCH["to"]}, "`match` and `to` .* go together"),
        ("small", {}, "exactly one of `state_dims`, or `match` with `to`"),
        ("small", {"state_dims": [3], **MATCH}, "exactly one of"),
        ("small", {"match": "mean"}, "`match` and `to` .* go together"),
        ("small", {"to": MATCH["to"]}, "`match` and `to` .* go together"),
        ("distill", {}, "exactly one of `state_dims`, or `match` with `to`"),
        ("hankel_regularized", {"tau": 0.1, **MATCH}, "exactly one of `tau`"),
        ("post_hoc", {"state_dims": [3], "scope": "global"}, "sizes are given here"),
        ("post_hoc", {"tau": 0.1, "finetune_steps": 1, "finetune_share": 0.1}, "give either"),
        ("post_hoc", {"tau": 0.1, "method": "modal"}, "no energy for `tau` to discard"),
    ],
)
def test_a_size_comes_from_one_place(kind, fields, message):
    with pytest.raises(ValidationError, match=message) as refused:
        trial({"kind": kind, **fields})
    assert [error["loc"] for error in refused.value.errors()] == [("arm", kind)]


@pytest.mark.parametrize(
    ("kind", "fields", "named"),
    [
        ("full", {"tau": 0.1}, ("tau",)),
        ("small", {"tau": 0.1}, ("tau",)),
        ("small", {"state_dims": [0]}, ("state_dims", 0)),
        ("small", {"state_dims": []}, ("state_dims",)),
        ("small", {"state_dims": 7}, ("state_dims",)),
        ("small", {**MATCH, "match": "best"}, ("match",)),
        ("small", {"match": "seed", "to": {"kind": "full"}}, ("to",)),
        ("post_hoc", {"tau": 1.0}, ("tau",)),
        ("post_hoc", {"state_dims": [3, -1]}, ("state_dims", 1)),
        ("post_hoc", {"tau": 0.1, "finetune_steps": -1}, ("finetune_steps",)),
        ("post_hoc", {"tau": 0.1, "finetune_lr_factor": 0.0}, ("finetune_lr_factor",)),
        (
            "post_hoc",
            {"match": "seed", "to": {"kind": "in_training", "tau": 2.0}},
            ("to", "in_training", "tau"),
        ),
    ],
)
def test_bad_values_are_refused_by_name(kind, fields, named):
    with pytest.raises(ValidationError) as refused:
        trial({"kind": kind, **fields})
    assert ("arm", kind, *named) in [error["loc"] for error in refused.value.errors()]


@pytest.mark.parametrize("kind", ["small", "post_hoc", "distill", "hankel_regularized"])
def test_sizes_must_fit_the_blocks(kind):
    model = {"blocks": 2, "state_dim": [8, 6]}
    for dims in ([3], [3, 2]):
        assert trial({"kind": kind, "state_dims": dims}, model=model).arm.state_dims == tuple(dims)
    with pytest.raises(ValidationError, match=r"arm\.state_dims lists 3 for 2 blocks"):
        trial({"kind": kind, "state_dims": [3, 2, 1]}, model=model)


def test_small_resolves_to_full_of_that_size_block_by_block():
    model = {"blocks": 3, "state_dim": [8, 6, 4], "width": 16}
    one_for_all = trial({"kind": "small", "state_dims": [3]}, model=model).resolved()
    assert one_for_all.model.state_dims == (3, 3, 3)
    each = trial({"kind": "small", "state_dims": [3, 2, 1]}, model=model, seed=5).resolved()
    assert each.model.state_dims == (3, 2, 1)
    assert (each.arm.kind, each.model.width, each.seed) == ("full", 16, 5)


def test_post_hoc_starts_from_the_full_trial_of_its_seed():
    fields = {"model": {"state_dim": 8}, "training": {"steps": 50}, "seed": 3}
    source = trial({"kind": "post_hoc", "tau": 0.1, "finetune_steps": 9}, **fields).source()
    assert source == trial({"kind": "full"}, **fields)
    for arm in ({"kind": "full"}, {"kind": "small", "state_dims": [3]}, {"kind": "in_training"}):
        assert trial(arm).source() is None


@pytest.mark.parametrize("kind", ["small", "post_hoc", "distill", "hankel_regularized"])
def test_no_more_states_are_asked_for_than_the_model_has(kind):
    model = {"blocks": 2, "state_dim": [8, 6]}
    with pytest.raises(ValidationError, match="asks block 1 for 7 of its 6 states"):
        trial({"kind": kind, "state_dims": [7]}, model=model)


def test_a_budget_larger_than_the_model_is_refused():
    model = {"blocks": 2, "state_dim": [8, 6]}
    arm = {"kind": "post_hoc", "method": "last", "scope": "global"}
    assert trial({**arm, "mean_dim": 7.0}, model=model)
    with pytest.raises(ValidationError, match=r"mean_dim 7\.5 is larger than the model, 7 states"):
        trial({**arm, "mean_dim": 7.5}, model=model)


def test_distillation_learns_from_the_full_trial_at_its_own_size():
    fields = {"model": {"blocks": 2, "state_dim": [8, 6]}, "seed": 3}
    student = trial({"kind": "distill", "state_dims": [3]}, **fields)
    assert student.source() == trial({"kind": "full"}, **fields)
    assert student.built.state_dims == (3, 3)
    assert student.resolved() == student


def test_a_penalty_acts_from_the_start_and_sizes_only_at_the_end():
    def acts(**changes):
        arm = {"kind": "hankel_regularized", "state_dims": [3], **changes}
        return trial(arm).arm.event_keys(trial(arm).training)

    assert [step for step, _ in acts()] == [0, 600]
    assert acts()[0] == acts(state_dims=[4])[0]
    assert acts()[1] != acts(state_dims=[4])[1]
    assert acts()[0] != acts(weight=0.5)[0]
    assert acts()[0] != acts(penalty="modal")[0]
