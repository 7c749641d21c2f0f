"""Own data are what their files hold: not where they lie, and no longer what they were once."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from harness import tasks
from harness.cli.app import execute
from harness.planning.plan import Plan
from harness.records.store import Store
from harness.suite import (
    Comparison,
    FullSpec,
    Suite,
    TaskSpec,
    TrainingSpec,
    TrialSpec,
    canonical,
    load,
    override,
)
from harness.suite.fork_family import family
from harness.suite.read import read_trial
from harness.training.trial import Execution, run_trial
from tests.tune.playing import STUDY, tiny_study

from .conftest import sequences

MODEL = {"blocks": 1, "width": 4, "state_dim": 4}
TRAINING = {"steps": 8, "batch_size": 8, "evaluate_every": 4}
FEW = TrainingSpec(**TRAINING)
SUITE = f"""
from harness.suite import *

suite = Suite(
    name="own",
    comparisons=(
        Comparison(
            task=TaskSpec(name="arrays", path="mine.npz"),
            model=LRUSpec(**{MODEL}),
            training=TrainingSpec(**{TRAINING}),
            arms={{"full": FullSpec(kind="full")}},
        ),
    ),
)
"""


def write(path, seed=0):
    x, y = sequences(seed=seed)
    np.savez(path, x=x, y=y)


def trial_json(path, name="arrays", **fields):
    return {
        "task": {"name": name, "path": str(path), **fields},
        "model": MODEL,
        "training": TRAINING,
        "arm": {"kind": "full"},
    }


def trial(path, **fields):
    return TrialSpec.model_validate(trial_json(path, **fields))


def id_of(path, **fields):
    return trial(path, **fields).trial_id


def stopping():
    """Asks a trial to stop after its second boundary."""
    asked = []
    return Execution(stop=lambda: asked.append(1) or len(asked) > 2)


def test_the_path_is_no_part_of_the_id_and_the_content_is(here):
    write("a.npz")
    first = id_of("a.npz")
    shutil.copy("a.npz", "copy.npz")
    (here / "deep").mkdir()
    shutil.move("a.npz", here / "deep" / "b.npz")
    assert id_of("copy.npz") == id_of(here / "deep" / "b.npz") == id_of("deep/b.npz") == first
    write("copy.npz", seed=1)
    assert id_of("copy.npz") != first
    assert id_of("deep/b.npz", split_seed=1) != first


def test_what_is_hashed_is_pinned_and_needs_no_file():
    shapes = {"examples": 60, "length": 12, "inputs": 2, "outputs": 3}
    for path in ("/nosuch/a.npz", "/nowhere/b.npz"):
        content = {"sha256": "5" * 64, "path": path, **shapes}
        task = {"name": "arrays", "path": path, "content": content}
        spec = TrialSpec.model_validate({"task": task, "arm": {"kind": "full"}})
        assert canonical(spec) == (
            f'{{"arm":{{"kind":"full"}},"task":{{"content":{{"sha256":"{"5" * 64}"}},'
            '"name":"arrays"}}'
        )
        assert spec.trial_id == "f72fb76f0fddac85"
        assert TrialSpec.model_validate_json(spec.model_dump_json()) == spec


def test_a_copy_of_a_spec_with_another_path_is_other_data(here):
    write("a.npz")
    write("b.npz", seed=1)
    one = TaskSpec(name="arrays", path="a.npz")
    two = one.model_copy(update={"path": str(here / "b.npz")})
    suite = Suite(
        name="s",
        comparisons=[
            Comparison(name=name, task=task, training=FEW, arms={"full": FullSpec(kind="full")})
            for name, task in (("a", one), ("b", two))
        ],
    )
    ids = [role.trial.trial_id for role in suite.roles()]
    assert ids[0] != ids[1]
    assert suite.comparisons[1].task == TaskSpec(name="arrays", path="b.npz")


def test_relative_to_the_suites_file_and_to_the_spec(here, monkeypatch):
    (here / "project").mkdir()
    (here / "away").mkdir()
    write(here / "project" / "mine.npz")
    (here / "project" / "own.py").write_text(SUITE)
    (here / "project" / "spec.json").write_text(json.dumps(trial_json("mine.npz")))
    monkeypatch.chdir(here / "away")
    suite = load("../project/own.py")
    (role,) = suite.roles()
    path = role.trial.task.path
    assert (here / "project" / "mine.npz").samefile(path)
    assert path.startswith("/")
    assert read_trial(here / "project" / "spec.json").trial_id == role.trial.trial_id
    with pytest.raises(ValueError, match=r"away/mine\.npz does not exist"):
        trial("mine.npz")
    # What is set on the command line is relative to where one stands.
    write(here / "away" / "other.npz", seed=1)
    (other,) = override(suite, ["task.path=other.npz"]).roles()
    assert (here / "away" / "other.npz").samefile(other.trial.task.path)
    assert other.trial.trial_id != role.trial.trial_id
    (same,) = override(suite, ["training.lr=0.004"]).roles()
    assert same.trial.trial_id == role.trial.trial_id
    (values,) = override(suite, ["task.predict=next_step"]).roles()
    assert values.trial.task.info.outputs == 2


def test_what_a_worker_gets_needs_neither_folder_nor_look(here, monkeypatch):
    write("mine.npz")
    spec = trial("mine.npz")
    sent = json.dumps(spec.model_dump(mode="json"))
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    monkeypatch.setattr("harness.tasks.own.sequences.read", None)
    again = TrialSpec.model_validate_json(sent)
    assert again == spec
    assert again.trial_id == spec.trial_id


def test_a_changed_file_is_noticed(here):
    write("mine.npz")
    (here / "own.py").write_text(SUITE)
    store = Store.open(here / "store", create=True)
    first = Plan(load("own.py"), store).rows[0].spec
    with pytest.raises(BaseException, match=r"stopped at step [1-8]"):
        run_trial(first, store, stopping())
    tasks._build.cache_clear()
    write("mine.npz", seed=1)
    with pytest.raises(ValueError, match=r"mine\.npz holds other data than the trial was planned"):
        run_trial(first, store)
    assert Plan(load("own.py"), store).rows[0].spec.trial_id != first.trial_id
    write("mine.npz")
    assert run_trial(first, store)["status"] == "completed"


def test_records_outlive_their_file(here, capsys):
    write("mine.npz")
    (here / "spec.json").write_text(json.dumps(trial_json("mine.npz")))
    assert execute(["trial", "spec.json", "--store", "store"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    (here / "mine.npz").unlink()
    tasks._build.cache_clear()
    folder = here / "store" / "trials" / result["record"]["trial_id"]
    stored = read_trial(folder / "spec.json")
    assert stored.trial_id == folder.name
    # An ended trial is given back as it stands; one that has to run needs the file.
    assert execute(["trial", str(folder / "spec.json"), "--store", "store"]) == 0
    capsys.readouterr()
    assert execute(["trial", str(folder / "spec.json"), "--store", "new"]) == 2
    assert "mine.npz does not exist" in capsys.readouterr().err
    assert not list(here.glob("new/trials/*"))


def test_a_study_and_what_trials_share_go_by_content_too(here):
    write("a.npz")
    shutil.copy("a.npz", "b.npz")
    tasks_of = {path: trial_json(path)["task"] for path in ("a.npz", "b.npz")}
    one, two = (tiny_study(base={**STUDY["base"], "task": task}) for task in tasks_of.values())
    assert one.base.task.path != two.base.task.path
    assert one.identity() == two.identity()
    assert one.base.task.content.sha256 in one.identity()
    assert family(one.base) == family(two.base)
    write("b.npz", seed=1)
    other = tiny_study(base={**STUDY["base"], "task": tasks_of["b.npz"]})
    assert other.identity() != one.identity()
    assert family(other.base) != family(one.base)


def test_a_plan_knows_the_sizes(here):
    write("mine.npz")
    spec = TaskSpec(name="arrays", path="mine.npz")
    assert (spec.train_size, spec.validation_size) == (48, 6)
    assert TaskSpec(name="arrays", path="mine.npz", train=9).train_size == 9
    with pytest.raises(ValueError, match="batch_size 50 is larger than the training split of"):
        TrialSpec(task=spec, arm={"kind": "full"})


def test_a_moved_file_resumes_the_same_trial(here):
    write("mine.npz")
    store = Store.open(here / "store", create=True)
    with pytest.raises(BaseException, match=r"stopped at step [1-8]"):
        run_trial(trial("mine.npz"), store, stopping())
    shutil.move("mine.npz", "moved.npz")
    result = run_trial(trial("moved.npz"), store)
    assert (result["status"], result["record"]["restarts"]) == ("completed", 1)
    whole = run_trial(trial("moved.npz"), Store.open(here / "whole", create=True))
    assert whole["record"]["val_metric"] == result["record"]["val_metric"]


def test_a_content_of_other_options_is_refused(here):
    write("mine.npz")
    task = TaskSpec(name="arrays", path="mine.npz").model_copy(update={"predict": "next_step"})
    with pytest.raises(ValueError, match="`content` is of other options: leave it out"):
        tasks.build(task)
    with pytest.raises(ValueError, match=r"content\.sha256: String should match"):
        execute_spec(here, {"sha256": "0", "path": "x"})
    lacking = {"sha256": "0" * 64, "path": str(here / "mine.npz"), "outputs": 3}
    with pytest.raises(ValueError, match="content has no length: leave it out"):
        execute_spec(here, lacking)


def execute_spec(here, content):
    (here / "spec.json").write_text(json.dumps(trial_json("mine.npz", content=content)))
    return read_trial(here / "spec.json")
