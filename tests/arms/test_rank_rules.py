"""Rank rules: ours by name, and one that is registered here."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import ValidationError

from harness.arms import Event, InTrainingSpec
from harness.arms.rank_rules import RULES, RankRule, register
from harness.records.store import Store
from harness.suite import TrainingSpec, TrialSpec
from harness.suite.explain import explain
from harness.training.trial import run_trial
from tests.reduction.systems import with_hsv
from tests.training.trials import table_of, trial_spec


def halve(arm, systems, event):
    return [max(1, len(system.hsv) // 2) for system in systems]


@pytest.fixture
def halving():
    register("halve", halve)
    yield InTrainingSpec(rule="halve", end=0.5, count=2)
    del RULES["halve"]


def test_a_registered_rule_takes_part_under_its_name(halving, tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_DEVICE", "cpu")
    assert halving.rank_rules == ("halve",)
    systems = [with_hsv(*np.ones(n)) for n in (9, 1)]
    assert halving.ranks(systems, Event()) == [4, 1]
    spec = trial_spec(halving.model_dump())
    store = Store.open(tmp_path)
    assert run_trial(spec, store)["record"]["state_dims"] == [4, 3]
    rows = table_of(store, spec.trial_id, "truncations")
    assert [row["dim_after"] for row in rows] == [8, 6, 4, 3]
    assert {row["tau"] for row in rows} == {None}  # its `tau` says nothing


def test_a_rule_that_may_count_events_shares_only_equal_numbers_of_them(halving):
    training = TrainingSpec(steps=600, evaluate_every=100)
    once = InTrainingSpec(rule="halve", end=0.25, count=1).event_keys(training)
    assert [at for at, _ in once] == [150]
    twice = halving.event_keys(training)
    assert [at for at, _ in twice] == [150, 300]
    assert once[0] != twice[0]


def test_an_unknown_rule_is_refused_by_name():
    with pytest.raises(ValidationError) as refused:
        TrialSpec(task={"name": "digits"}, arm={"kind": "in_training", "rule": "halve"})
    said = "arm.rule: no such rule; there are energy, fixed, pragmatic, loss (got 'halve')"
    assert explain(refused.value) == said


@pytest.mark.parametrize(
    ("name", "rule", "message"),
    [
        ("energy", halve, "rank rule energy is there already"),
        ("mine", 3, "rank rule mine: 3 is neither a function nor a class"),
        ("mine", type("Empty", (RankRule,), {}), "rank rule mine defines no `ranks"),
    ],
)
def test_what_is_no_rule_or_takes_a_name_is_refused(name, rule, message):
    before = dict(RULES)
    with pytest.raises(ValueError, match=message):
        register(name, rule)
    assert before == RULES


def test_a_class_is_a_rule_with_hooks_of_its_own():
    class Never(RankRule):
        def ranks(self, arm, systems, event):
            return [len(system.hsv) for system in systems]

        def before_event(self, arm, here):
            return here.step > 10

    register("never", Never)
    try:
        arm = InTrainingSpec(rule="never")
        assert not arm.before_event(SimpleNamespace(step=5))
        assert arm.before_event(SimpleNamespace(step=15))
    finally:
        del RULES["never"]
