"""A spec of a class of one's own: it is refused, since its JSON would come back as its parent."""

import re

import pytest
from pydantic import ValidationError

from harness.arms import ARMS
from harness.launch.run_suite import run_suite
from harness.models.specs import MODELS
from harness.planning.plan import Plan
from harness.records.store import Store
from harness.spec import Spec
from harness.suite import (
    Comparison,
    FullSpec,
    InTrainingSpec,
    LRUSpec,
    PostHocSpec,
    SmallSpec,
    Suite,
    TrainingSpec,
    TrialSpec,
    load,
)
from harness.suite.load import find
from harness.tasks import TASK_SPECS, DigitsSpec
from harness.training.alone import run_alone
from harness.training.trial import run_trial
from harness.tune import Study
from harness.tune.run_study import run_study

HEAD = """
from harness.suite import *
from harness.tasks import DigitsSpec
class Halve(InTrainingSpec):
    def ranks(self, systems, turn):
        return [len(one.hsv) // 2 for one in systems]
class Digits(DigitsSpec):
    pass
class Wide(LRUSpec):
    pass
class Long(TrainingSpec):
    pass
class Meeting(Comparison):
    pass
class Programme(Suite):
    pass
digits, full = TaskSpec(name="digits"), FullSpec(kind="full")
shrink, halve = InTrainingSpec(kind="in_training"), Halve(kind="in_training")
"""


class Halve(InTrainingSpec):
    """The rule of the issue: half of the states each time."""

    def ranks(self, systems, turn):
        return [len(one.hsv) // 2 for one in systems]


class Digits(DigitsSpec):
    pass


class Wide(LRUSpec):
    pass


class Long(TrainingSpec):
    pass


class Trial(TrialSpec):
    pass


class Meeting(Comparison):
    pass


class Programme(Suite):
    pass


class Search(Study):
    pass


DIGITS = DigitsSpec(name="digits")
HALVE = Halve(kind="in_training")
FULL = TrialSpec(task=DIGITS, arm=FullSpec(kind="full"))
SUITE = Suite(
    name="mine", comparisons=(Comparison(task=DIGITS, arms={"full": FullSpec(kind="full")}),)
)
ONE_LINE = r"\A[^\n]+\Z"


def said(name, parent):
    return re.escape(f"class {name} (test_classes.py) stands where {parent} should")


@pytest.mark.parametrize(
    ("fields", "name", "parent"),
    [
        ({"arm": HALVE}, "Halve", "InTrainingSpec"),
        ({"task": Digits(name="digits")}, "Digits", "DigitsSpec"),
        ({"model": Wide()}, "Wide", "LRUSpec"),
        ({"training": Long()}, "Long", "TrainingSpec"),
        ({"arm": SmallSpec.model_construct(kind="small", match="seed", to=HALVE)}, "Halve", "InT"),
    ],
)
def test_a_trial_of_another_class_is_refused_where_it_is_made_copied_and_named(
    fields, name, parent
):
    with pytest.raises(ValidationError, match=said(name, parent).removesuffix(r"\ should")):
        TrialSpec(**{"task": DIGITS, "arm": {"kind": "full"}, **fields})
    copy = FULL.model_copy(update=fields)
    with pytest.raises(ValidationError, match=name):
        TrialSpec.model_validate(copy)
    with pytest.raises(ValidationError, match=name):
        copy.trial_id  # noqa: B018  an id of content that would not come back


def test_an_arm_that_matches_one_of_another_class_is_refused():
    for kind in (SmallSpec, PostHocSpec):
        with pytest.raises(ValidationError, match=said("Halve", "InTrainingSpec")):
            kind(kind=kind.model_fields["kind"].annotation.__args__[0], match="seed", to=HALVE)


@pytest.mark.parametrize("parent", [*ARMS, *MODELS, *TASK_SPECS])
def test_no_spec_takes_an_instance_of_a_subclass(parent):
    own = type("Own", (parent,), {"__module__": __name__})
    with pytest.raises(ValidationError, match=said("Own", parent.__name__)):
        parent.model_validate(own.model_construct())


def test_what_is_within_a_spec_of_any_kind_is_refused_too():
    """The mechanism is the base's: no union has to remember it."""

    class Part(Spec):
        size: int = 1

    class Whole(Spec):
        parts: tuple[Part, ...] = ()

    class OwnPart(Part):
        pass

    assert Whole(parts=(Part(size=3),)).parts[0].size == 3
    with pytest.raises(ValidationError, match=r"parts.0\n.*class OwnPart \(test_classes.py\)"):
        Whole(parts=(OwnPart(),))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'Suite(name="s", comparisons=(Comparison(task=digits, arms={"h": halve}),))',
            "line 19: arms.h: class Halve (mine.py) stands where InTrainingSpec should: a spec is "
            "stored and sent to its worker as JSON, so a class of your own would run as its parent",
        ),
        (
            'Suite(name="s", comparisons=(Comparison(task=Digits(name="digits"), '
            'arms={"f": full}),))',
            "line 19: task: class Digits (mine.py) stands where DigitsSpec should",
        ),
        (
            'Suite(name="s", comparisons=(Comparison(task=digits, model=Wide(), '
            'arms={"f": full}),))',
            "line 19: model: class Wide (mine.py) stands where LRUSpec should",
        ),
        (
            'Suite(name="s", comparisons=(Meeting(task=digits, arms={"f": full}),))',
            "line 19: comparisons.0: class Meeting (mine.py) stands where Comparison should",
        ),
        (
            'Programme(name="s", comparisons=(Comparison(task=digits, arms={"f": full}),))',
            "suite: class Programme (mine.py) stands where Suite should",
        ),
        (
            'Comparison(task=digits, arms={"h": shrink})\n'
            'suite = Suite(name="s", comparisons=(suite.model_copy('
            'update={"arms": {"h": halve}}),))',
            "line 20: comparisons.0.arms.h: class Halve (mine.py) stands where InTrainingSpec",
        ),
    ],
)
def test_a_suite_file_is_refused_in_one_line(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(HEAD + f"suite = {text}\n")
    with pytest.raises(ValueError, match=ONE_LINE) as refused:
        load("mine.py")
    assert message in str(refused.value)


def test_every_door_refuses_and_writes_nothing(tmp_path):
    store = Store.open(tmp_path / "store")
    copy = FULL.model_copy(update={"arm": HALVE})
    arms = SUITE.comparisons[0].model_copy(update={"arms": {"h": HALVE}})
    copied = SUITE.model_copy(update={"comparisons": (arms,)})
    study = find("timing.digits", (Study,), "study")
    doors = [
        (lambda: run_trial(copy, store), "Halve"),
        (lambda: run_alone(copy, store), "Halve"),
        (lambda: run_trial(Trial(task=DIGITS, arm=FullSpec(kind="full")), store), "Trial"),
        (lambda: Plan(copied, store), "Halve"),
        (lambda: run_suite(copied, store, "harness run"), "Halve"),
        (lambda: Plan(Programme(**dict(SUITE)), store), "Programme"),
        (lambda: run_study(Search(**dict(study)), store, "harness tune"), "Search"),
        (
            lambda: run_study(
                study.model_copy(update={"base": study.base.model_copy(update={"arm": HALVE})}),
                store,
                "harness tune",
            ),
            "Halve",
        ),
    ]
    for call, name in doors:
        with pytest.raises(ValueError, match=rf"class {name} \(test_classes.py\)") as refused:
            call()
        assert "\n" not in str(refused.value), name
    assert not store.root.exists()


def test_ours_still_pass():
    trial = TrialSpec(task=DIGITS, model=LRUSpec(), arm=InTrainingSpec(kind="in_training"))
    assert TrialSpec.model_validate(trial) == trial
    assert trial.trial_id == "cc730803714272fe"
