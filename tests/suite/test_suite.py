"""What a suite expands to, and which comparisons are refused."""

import re

import pytest
from pydantic import ValidationError

from harness.suite import (
    Comparison,
    FullSpec,
    InTrainingSpec,
    PostHocSpec,
    SmallSpec,
    Suite,
    SuiteResources,
    TaskSpec,
    TrainingSpec,
)

FULL = FullSpec(kind="full")
TRUNCATED = InTrainingSpec(kind="in_training")
DIGITS = TaskSpec(name="digits")


def comparison(**fields):
    return Comparison(**{"task": DIGITS, "arms": {"full": FULL}, **fields})


def test_roles_are_every_arm_over_every_seed(suite):
    roles = list(suite.roles())
    digits = [(r.label, r.trial.seed) for r in roles if r.task == "digits"]
    labels = ["full", "in_training tau=0.2", "post_hoc", "small"]
    assert digits == [(label, seed) for label in labels for seed in (0, 3)]
    assert len(roles) == len(digits) + 1


def test_a_role_says_what_it_is_and_what_it_matches(suite):
    roles = {r.label: r for r in suite.roles()}
    assert [roles[k].kind for k in ("full", "in_training tau=0.2", "post_hoc", "small")] == [
        "full",
        "in_training",
        "post_hoc",
        "small",
    ]
    assert roles["full"].matches is None
    assert roles["small"].matches == roles["post_hoc"].matches == "in_training tau=0.2"


def test_a_named_comparison_is_named_in_its_labels(suite):
    assert [r.label for r in suite.roles() if r.task == "pylib"] == ["bytes: full"]
    arms = {"short": TRUNCATED, "small": SmallSpec(kind="small", match="seed", to=TRUNCATED)}
    named = Suite(name="s", comparisons=[comparison(name="slow", arms=arms)])
    assert [r.matches for r in named.roles()] == [None, "slow: short"]


def test_a_role_is_the_trial_that_its_comparison_describes(suite):
    digits = suite.comparisons[0]
    for role in suite.roles():
        if role.task == "digits":
            assert role.trial.arm == digits.arms[role.label]
            assert (role.trial.model, role.trial.training) == (digits.model, digits.training)
    ids = [r.trial.trial_id for r in suite.roles()]
    assert len(set(ids)) == len(ids)


def test_names_and_labels_are_no_part_of_a_trial():
    one = Suite(name="one", comparisons=[comparison()])
    two = Suite(name="two", comparisons=[comparison(name="x", arms={"label": FULL})])
    assert [r.trial.trial_id for r in one.roles()] == [r.trial.trial_id for r in two.roles()]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"seeds": ()}, "seeds"),
        ({"seeds": (1, 1)}, "seeds repeat: [1, 1]"),
        ({"arms": {}}, "at least 1 item"),
        (
            {"arms": {"post_hoc": PostHocSpec(kind="post_hoc", tau=0.1)}},
            "arm 'post_hoc' starts from the full arm: add it",
        ),
        (
            {"arms": {"small": SmallSpec(kind="small", match="seed", to=TRUNCATED)}},
            "arm 'small' matches an in_training arm that is not in the comparison",
        ),
        ({"training": TrainingSpec(batch_size=1001)}, "training split of digits, 1000 examples"),
        ({"training": TrainingSpec(steps=10), "arms": {"a": TRUNCATED}}, "of 10 steps fall on"),
        ({"arms": {"a": SmallSpec(kind="small", state_dims=(1, 2, 3))}}, "lists 3 for 2 blocks"),
        (
            {"arms": {"full": FULL, "a": PostHocSpec(kind="post_hoc", state_dims=(65,))}},
            "asks block 0 for 65 of its 64 states",
        ),
    ],
)
def test_arms_that_cannot_meet_are_refused(fields, said):
    with pytest.raises(ValidationError, match=re.escape(said)):
        comparison(**fields)


def test_comparisons_on_one_task_need_names_of_their_own():
    with pytest.raises(ValidationError, match="share a name"):
        Suite(name="s", comparisons=[comparison(), comparison(seeds=(1,))])
    assert Suite(name="s", comparisons=[comparison(), comparison(name="other")])


@pytest.mark.parametrize("name", ["", "../up", "a b", ".hidden", "a/b"])
def test_a_suite_s_name_must_be_able_to_name_a_folder(name):
    with pytest.raises(ValidationError, match="a suite's name is letters"):
        Suite(name=name, comparisons=[comparison()])


def test_resources_are_no_part_of_a_trial_and_unsaid_where_there_are_none():
    """Plans written before suites had any stay as they were."""
    plain = Suite(name="s", comparisons=(Comparison(task=DIGITS, arms={"full": FullSpec()}),))
    assert "resources" not in plain.model_dump(mode="json")
    wanted = SuiteResources(gpus="auto", memory="8GB", accelerator="A100")
    rich = plain.model_copy(update={"resources": wanted})
    assert Suite.model_validate_json(rich.model_dump_json()) == rich
    ids = [[role.trial.resolved().trial_id for role in one.roles()] for one in (plain, rich)]
    assert ids[0] == ids[1]
    for wrong in ({"gpus": "all"}, {"gpus": -1.0}, {"cpus": 0}, {"gpu": 1}):
        with pytest.raises(ValidationError):
            SuiteResources(**wrong)
