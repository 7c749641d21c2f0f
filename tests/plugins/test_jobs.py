"""Suites and studies hand the code that their trials need to the launch."""

import pytest

from harness.launch.plan_jobs import PlanJobs
from harness.planning.plan import Plan
from harness.planning.plan_file import stored_suite, write_plan
from harness.records.store import Store
from harness.suite import load
from harness.suite.load import find
from harness.tune import Study

from . import code

pytestmark = pytest.mark.usefixtures("plugged")

STUDY = """
from harness.suite import *
from harness.tune import *

study = Study(
    name="searched",
    plugins=("rules.py",),
    base=TrialSpec(
        task=TaskSpec(name="digits"),
        model=ModelSpec(blocks=1, width=4, state_dim=6),
        training=TrainingSpec(steps=100, evaluate_every=50),
        arm=InTrainingSpec(rule="thirds", tau=0.2, end=0.5, count=2),
    ),
    space=Space(
        start=Floats(low=0.0, high=0.5),
        length=Floats(low=0.1, high=0.4),
        count=Ints(low=1, high=2),
        tau=Floats(low=0.01, high=0.3, log=True),
    ),
    seeds=(0, 1), confirm_seeds=(2, 3), goal="pareto", grid=20, budget=Budget(candidates=4),
)
"""
RULE = """
import harness

@harness.rank_rule
def thirds(arm, systems, event):
    return [max(1, len(one.hsv) // 3) for one in systems]
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_jobs_carry_the_code_of_their_trials(here):
    (here / "mine.py").write_text(code.LAYER)
    (here / "user.py").write_text(code.suite(layer="through", plugins=["mine.py"]))
    jobs = PlanJobs(Plan(load("user.py"), Store.open("store"))).ready()
    assert [[source.file for source in job.plugins] for job in jobs] == [["mine.py"]] * 2
    (here / "plain.py").write_text(code.suite())
    plain = PlanJobs(Plan(load("plain.py"), Store.open("store"))).ready()
    assert {job.plugins for job in plain} == {()}


def test_a_study_lists_plug_ins_as_a_suite_does(here):
    (here / "rules.py").write_text(RULE)
    (here / "search.py").write_text(STUDY)
    study = find("search.py:study", (Study,), "study")
    assert study.plugins == (str(here / "rules.py"),)
    assert study.identity() == study.model_copy(update={"plugins": ()}).identity()
    assert "plugins" not in study.model_copy(update={"plugins": ()}).model_dump(mode="json")
    (here / "search.py").write_text(STUDY.replace('    plugins=("rules.py",),\n', ""))
    (here / "rules.py").write_text("raise KeyError")
    assert find("search.py:study", (Study,), "study").base.arm.rule == "thirds"


def test_a_record_makes_no_code_run(here):
    (here / "mine.py").write_text(code.LAYER)
    (here / "user.py").write_text(code.suite(layer="through", plugins=["mine.py"]))
    store = Store.open("store")
    write_plan(Plan(load("user.py"), store), "harness run user.py")
    (here / "mine.py").write_text("raise SystemExit(3)")
    assert stored_suite(store, "mine").comparisons[0].model.kind == "through"
