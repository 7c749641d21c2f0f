"""`--set`: where it reaches, how values are read, and what is refused."""

import pytest

from harness.suite import (
    Comparison,
    FullSpec,
    InTrainingSpec,
    LRUSpec,
    Suite,
    override,
)
from harness.tools.inputs import cut


def set_to(suite, *settings):
    return override(suite, settings)


def refusal_of(suite, *settings):
    with pytest.raises(ValueError, match=r"\A--set [^\n]+\Z") as refused:
        override(suite, settings)
    return str(refused.value)


def test_nothing_set_changes_nothing(suite):
    assert override(suite, []) is suite
    assert set_to(suite, "training.lr=0.004") == suite


def test_a_path_reaches_every_comparison_that_has_it(suite):
    assert [c.training.steps for c in set_to(suite, "training.steps=60").comparisons] == [60, 60]
    assert [c.seeds for c in set_to(suite, "seeds=[5,6,7]").comparisons] == [(5, 6, 7)] * 2
    digits, bytes_ = set_to(suite, "task.window=32").comparisons
    assert digits == suite.comparisons[0]
    assert bytes_.task.window == 32


def test_a_comparison_can_be_named(suite):
    changed = set_to(suite, "digits.training.steps=60", "bytes.training.steps=90")
    assert [c.training.steps for c in changed.comparisons] == [60, 90]


def test_the_last_of_two_settings_holds(suite):
    changed = set_to(suite, "training.steps=60", "training.steps=90")
    assert changed.comparisons[0].training.steps == 90


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("training.lr=1e-2", 0.01),
        ("training.lr=1", 1.0),
        ("training.schedule=constant", "constant"),
        ('training.schedule="constant"', "constant"),
        ("model.state_dim=12", 12),
        ("model.state_dim=[12,7]", (12, 7)),
    ],
)
def test_values_are_json_or_else_text(suite, setting, value):
    changed = set_to(suite, f"digits.{setting}").comparisons[0]
    room, name = setting.partition("=")[0].split(".")
    assert getattr(getattr(changed, room), name) == value


def test_one_arm_is_reached_by_its_label_and_those_that_match_it_follow(suite):
    arms = set_to(suite, "arms.in_training tau=0.2.tau=0.4").comparisons[0].arms
    assert arms["in_training tau=0.2"].tau == 0.4
    assert arms["post_hoc"].to == arms["small"].to == arms["in_training tau=0.2"]
    assert arms["full"] == suite.comparisons[0].arms["full"]


def test_a_value_may_be_a_whole_arm(suite):
    setting = 'digits.arms.small={"kind": "small", "state_dims": [9]}'
    assert set_to(suite, setting).comparisons[0].arms["small"].state_dims == (9,)


def test_the_result_is_a_suite_like_any_other(suite):
    changed = set_to(suite, "training.steps=60")
    assert Suite.model_validate(changed.model_dump(mode="json")) == changed


@pytest.mark.parametrize("setting", ["training.steps", "", "=3", "seeds"])
def test_a_setting_needs_a_path_and_a_value(suite, setting):
    assert refusal_of(suite, setting) == f"--set needs PATH=VALUE, not {setting!r}"


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("training.stepz", "training has steps, batch_size, lr, "),
        ("digits.training.stepz", "training has steps, batch_size, lr, "),
        ("taks", "a comparison has name, task, model, training, arms, seeds"),
        ("task.widow", "task has split_seed, name, window, "),
        ("arms.smal", "arms has full, in_training tau=0.2, post_hoc, small"),
        ("arms.post_hoc.finetune", "arms.post_hoc has kind, state_dims, match, to, tau, "),
        ("training.steps.more", "training.steps has no fields"),
        ("nope.training.steps", "did you mean training.steps?"),
        ("steps", "did you mean training.steps?"),
    ],
)
def test_a_wrong_path_is_told_the_right_ones(suite, path, hint):
    message = refusal_of(suite, f"{path}=3")
    assert message.startswith(f"--set {path}: no comparison of example has it; {hint}")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("training.steps=0", "digits.training.steps: Input should be greater than or equal to 1"),
        ("bytes.training.steps=x", "bytes.training.steps: Input should be a valid integer (got"),
        ("training.lr=NaN", "digits.training.lr: Input should be a finite number (got nan)"),
        ("training.lr=1e999", "digits.training.lr: Input should be a finite number (got inf)"),
        ("task.window=1", "bytes.task.window: Input should be greater than or equal to 2 (got 1)"),
        ("model.dropout=1", "digits.model.dropout: Input should be less than 1 (got 1)"),
        ("digits.model.state_dim=[1,2,3]", "digits.model: state_dim lists 3 sizes for 2 blocks"),
        ("seeds=0", "digits.seeds: Input should be a valid tuple (got 0)"),
        ("seeds=[1,1]", "digits.seeds: seeds repeat: [1, 1]"),
        ("seeds=[-1]", "digits.seeds.0: Input should be greater than or equal to 0 (got -1)"),
        ("training.batch_size=5000", "digits: training.batch_size 5000 is larger than"),
        (
            "arms.in_training tau=0.2.tau=1",
            "digits.arms.in_training tau=0.2.tau: Input should be less than 1 (got 1)",
        ),
        ("seeds=" + "[" * 100_000, "digits.seeds: Input should be a valid tuple (got '[[["),
    ],
)
def test_a_wrong_value_names_path_and_range(suite, setting, said):
    message = refusal_of(suite, setting)
    assert message.startswith(f"--set {cut(setting, 100)}: {said}")


@pytest.mark.parametrize("first", ["training=3", "arms={}", "arms=[]", "training=null"])
def test_what_an_earlier_setting_replaced_is_said(suite, first):
    second = "arms.full.kind=full" if first.startswith("arms") else "training.steps=3"
    message = refusal_of(suite, first, second)
    assert message.endswith("an earlier --set replaced what it is in")


def test_another_kind_keeps_what_both_have_and_was_set():
    arms = {"full": FullSpec(), "other": InTrainingSpec(tau=0.2, end=0.5)}
    one = Comparison(task={"name": "digits"}, model=LRUSpec(width=12, r_min=0.5), arms=arms)
    suite = Suite(name="one", comparisons=(one,))
    gru = 'model.kind="gru"'
    assert "in_training needs a layer that gives its system" in refusal_of(suite, gru)
    (changed,) = set_to(suite, gru, 'arms.other.kind="full"').comparisons
    assert (changed.model.kind, changed.model.width, changed.model.state_dim) == ("gru", 12, 64)
    assert changed.arms["other"] == FullSpec()


def test_another_kind_does_not_take_a_default_of_the_old_one():
    def with_other(arm):
        arms = {"full": FullSpec(), "other": arm}
        one = Comparison(task={"name": "digits"}, arms=arms)
        return Suite(name="one", comparisons=(one,))

    post_hoc = 'arms.other.kind="post_hoc"'
    (changed,) = set_to(with_other(InTrainingSpec(tau=0.2)), post_hoc).comparisons
    assert changed.arms["other"].tau == 0.2
    # 0.1, the tau of an in_training arm that says none, was not asked for here.
    assert "give exactly one of `tau`" in refusal_of(with_other(InTrainingSpec()), post_hoc)
