"""A store with one damaged file: what is whole is kept, the rest is named in one line."""

from __future__ import annotations

import io
import shutil
import time

import pandas as pd
import pytest

from harness.cli.app import execute
from harness.launch.run_suite import RunSummary, publish_run
from harness.planning.plan import Plan
from harness.records.store import Store
from harness.suite import Suite
from harness.suite.load import load
from harness.training.trial import run_trial
from tests.cli.conftest import TINY
from tests.records.test_damage import DAMAGES

TRIAL = ("result.json", "spec.json", "curves.parquet", "truncations.parquet", "spectra.parquet")
VIEWS = (  # of the suite, made anew from its trials
    "trials.parquet", "curves.parquet", "truncations.parquet", "spectra.parquet",
    "comparison.parquet", "comparison.md", "comparison.csv", "comparison.tex", "index.html",
)  # fmt: skip


@pytest.fixture(autouse=True)
def no_mirror(monkeypatch):
    """The mirror and the drawing take most of a report's time, and have tests of their own."""
    monkeypatch.setattr("harness.records.mirror.mirror.mirror", lambda *_: None)
    monkeypatch.setattr("harness.report.write.draw", lambda _: {})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store with the eight trials of the tiny suite and its report."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "tiny.py").write_text(TINY)
    store, suite = Store.open(folder / "store"), load(str(folder / "tiny.py"))
    assert isinstance(suite, Suite)
    plan = Plan(suite, store)
    while missing := [row for row in plan.missing(plan.rows) if plan.ready(row)]:
        run_trial(missing[0].spec, store)
        plan.resolve()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.records.mirror.mirror.mirror", lambda *_: None)
        summary = RunSummary(store.suite("tiny"))
        publish_run(plan, "harness run tiny.py", time.time(), summary, plan.rows)
    return store


@pytest.fixture
def store(made, here):
    """A copy of it, `store` in the working directory."""
    shutil.copytree(made.root, here / "store")
    return Store.open("store")


@pytest.fixture
def say(capsys):
    """Run a command line; its exit code and the lines that it says, none of them a traceback."""

    def run(*arguments):
        capsys.readouterr()
        code = execute([*arguments, "--store", "store"])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert all(len(line) < 600 for line in err.splitlines())
        return code, out, err.splitlines()

    return run


def trial_of(store, label, seed=0):
    trials = pd.read_parquet(store.suite("tiny").folder / "trials.parquet")
    found = trials[(trials.label == label) & (trials.seed == seed)]
    return store.trial(found.trial_id.iloc[0])


@pytest.mark.parametrize("damage", ["delete", "flip"])  # collect's own tests have them all
@pytest.mark.parametrize("name", TRIAL)
def test_a_report_keeps_what_is_whole_and_names_the_rest(store, say, name, damage):
    trial = trial_of(store, "in_training")
    DAMAGES[damage](trial.path / name)
    code, out, lines = say("report", "tiny")
    assert out.endswith("index.html\n")
    assert code == 3
    assert len(lines) == 1
    assert f"trials/{trial.trial_id} is damaged ({name}" in lines[0]
    assert "to run the trial again" in lines[0]
    code, out, _ = say("table", "tiny", "--format", "csv")
    rows = pd.read_csv(io.StringIO(out))
    assert code == 0
    assert list(rows.label) == ["full", "in_training", "post_hoc", "small"]
    assert list(rows.seeds) == [2, 1, 2, 2]
    assert list(rows.damaged) == [0, 1, 0, 0]
    assert "1 (1 damaged)" in say("table", "tiny")[1]
    assert "1 of them damaged" in (store.suite("tiny").folder / "index.html").read_text()


def test_a_report_of_damaged_trials_alone(store, say):
    for trial_id in store.ended_trials():
        DAMAGES["flip"](store.trial(trial_id).path / "curves.parquet")
    code, _, lines = say("report", "tiny")
    assert (code, len(lines)) == (3, 8)
    assert "0 (2 damaged)" in say("table", "tiny")[1]


def test_verify_names_every_damaged_file_and_the_model_too(store, say):
    code, _, lines = say("report", "tiny", "--verify")
    assert (code, len(lines)) == (0, 1)
    assert lines[0] == "56 files compared with their checksums, 0 damaged"
    one, other = trial_of(store, "full"), trial_of(store, "small", 1)
    for path in (one.path / "model.safetensors", one.path / "manifest.json"):
        DAMAGES["flip"](path)
    DAMAGES["zero"](other.path / "spectra.parquet")
    code, _, lines = say("report", "tiny", "--verify")
    assert code == 3
    assert lines[0] == "56 files compared with their checksums, 3 damaged"
    assert sum("is not as it was written" in line for line in lines[1:]) == 3
    for name in ("model.safetensors", "manifest.json", "spectra.parquet"):
        assert sum(f"({name} is not" in line for line in lines) == 1


@pytest.mark.parametrize("damage", ["delete", "empty", "half", "flip", "garbage"])
def test_lost_views_of_the_suite_are_made_anew(store, say, damage):
    before = say("table", "tiny")
    for name in VIEWS:
        DAMAGES[damage](store.suite("tiny").folder / name)
    code, _, lines = say("table", "tiny")
    if damage != "flip":  # which may hit what a reader passes over
        assert (code, len(lines)) == (2, 1)
        assert "harness report tiny" in lines[0]
    assert say("report", "tiny")[0] == 0
    assert say("table", "tiny") == before == (0, before[1], [])


@pytest.mark.parametrize("verb", ["report", "table"])
@pytest.mark.parametrize("damage", ["delete", "empty", "half", "flip", "braces", "list", "folder"])
def test_a_lost_plan_is_named_with_the_way_back(store, say, damage, verb):
    DAMAGES[damage](store.suite("tiny").folder / "plan.json")
    code, out, lines = say(verb, "tiny")
    assert (code, out, len(lines)) == (2, "", 1)
    assert "plan.json" in lines[0]
    assert "run tiny again" in lines[0]


def test_a_plan_counts_a_damaged_trial_and_runs_the_rest(store, say):
    trial = trial_of(store, "in_training")
    DAMAGES["half"](trial.path / "result.json")
    code, out, _ = say("plan", "tiny.py")
    assert code == 0
    assert "1 damaged" in out
    assert f"trials/{trial.trial_id} is damaged (result.json" in out
    assert "which it needs, is damaged" in out  # small of the mean of both seeds


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
@pytest.mark.parametrize("damage", ["delete", "flip", "folder"])
def test_a_full_model_that_is_gone_is_no_fault_of_the_machine(store, say, here, name, damage):
    """Deleted to save space, say: a launch tried three times more, and gave up without a reason."""
    from harness.launch.worker import TrialWorker

    full, needy = trial_of(store, "full"), trial_of(store, "post_hoc")
    spec = needy.spec()
    (here / "spec.json").write_bytes((needy.path / "spec.json").read_bytes())
    shutil.rmtree(needy.path)
    DAMAGES[damage](full.path / name)
    code, out, lines = say("trial", "spec.json")
    assert (code, out, len(lines)) == (2, "", 1)
    assert f"trials/{full.trial_id}" in lines[0]
    assert name in lines[0]
    assert "again" in lines[0]
    assert not needy.path.exists()
    status, message = TrialWorker().run(spec, str(store.root), 0.0, {})
    assert status == "refused"
    assert f"harness: {message}" == lines[0]


@pytest.mark.parametrize("damage", ["half", "flip", "garbage", "folder", "empty"])
def test_a_damaged_checkpoint_says_what_to_do(store, say, here, damage):
    trial = trial_of(store, "full")
    (here / "spec.json").write_bytes((trial.path / "spec.json").read_bytes())
    wanted = (trial.path / "model.safetensors").read_bytes()
    (trial.path / "result.json").unlink()
    trial.save_checkpoint({}, {"state": {}})
    path = trial.path / "checkpoint" / "state.safetensors"
    code, _, lines = say("trial", "spec.json")  # whole, but no state of this trial
    assert (code, len(lines)) == (2, 1)
    assert lines[0].endswith(f"remove {path} to start the trial from step 0")
    DAMAGES[damage](path)
    code, _, lines = say("trial", "spec.json")
    assert (code, len(lines)) == (2, 1)
    assert lines[0].endswith(f"remove {path} to start the trial from step 0")
    shutil.rmtree(path.parent)
    assert say("trial", "spec.json")[0] == 0
    assert (trial.path / "model.safetensors").read_bytes() == wanted


@pytest.mark.parametrize("place", ["store/trials", "store/trials/ID", "store/.claims"])
def test_a_file_where_a_folder_belongs(store, say, here, place):
    trial = trial_of(store, "full")
    (here / "spec.json").write_bytes((trial.path / "spec.json").read_bytes())
    path = here / place.replace("ID", trial.trial_id)
    shutil.rmtree(path)
    path.write_text("x")
    code, _, lines = say("trial", "spec.json")
    assert (code, len(lines)) == (2, 1)
    assert str(path) in lines[0]
    assert path.read_text() == "x"
