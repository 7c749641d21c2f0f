"""`import harness`: what it offers, without loading anything, and that three lines are enough."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import harness
from harness import suite
from harness.environment import VARIABLES
from harness.launch import run_suite
from harness.models.precision import set_products
from harness.training.host.process import process_as_before
from tests.cli.conftest import TINY
from tests.tune.playing import launching

ROOT = Path(__file__).parents[1]
SPEC = {
    "task": {"name": "digits"},
    "model": {"blocks": 1, "width": 4, "state_dim": 8},
    "training": {"steps": 20, "batch_size": 20, "evaluate_every": 10},
    "arm": {"kind": "in_training", "tau": 0.3, "end": 0.5, "count": 1},
}


def in_a_new_process(code):
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_importing_it_loads_nothing():
    code = "import sys; before = set(sys.modules); import harness; "
    loaded = in_a_new_process(code + "print(*(set(sys.modules) - before))")
    packages = {name.partition(".")[0] for name in loaded}
    assert packages - sys.stdlib_module_names == {"harness"}
    assert {name for name in loaded if name.startswith("harness")} == {"harness"}


def test_every_name_is_there_and_listed():
    assert set(harness.__all__) <= set(dir(harness))
    for name in harness.__all__:
        assert callable(getattr(harness, name))
        assert getattr(harness, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        harness.nothing  # noqa: B018


def test_every_spec_that_a_suite_is_made_of_is_there():
    made_of = [name for name in suite.__all__ if name.endswith("Spec")]
    assert {"Suite", "Comparison", *made_of} <= set(harness.__all__)
    assert harness.FullSpec is suite.FullSpec


def test_no_name_is_that_of_a_room():
    """Importing a room makes it an attribute of the package, in the place of a function."""
    rooms = {path.stem for path in (ROOT / "harness").iterdir()}
    assert not rooms & set(harness.__all__)


@pytest.mark.parametrize("first", ["harness.planning.plan, harness.launch.run_suite", "harness"])
def test_names_stay_functions_whatever_is_imported_first(first):
    code = f"import {first}; import harness; found = harness.plan, harness.run; "
    code += "import harness.planning.plan, harness.launch.run_suite; "
    code += "print(found == (harness.plan, harness.run), *(type(one).__name__ for one in found))"
    assert in_a_new_process(code) == ["True", "function", "function"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    for variable in VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)
    monkeypatch.setenv("HARNESS_DEVICE", "cpu")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.py").write_text(TINY)
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a suite in it, and its store after a launch without Ray."""
    folder = tmp_path_factory.mktemp("face")
    (folder / "tiny.py").write_text(TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_suite, "launch", launching())
        patch.setattr("harness.records.mirror.mirror.update", lambda *_: None)
        patch.setenv("HARNESS_DEVICE", "cpu")
        done = harness.run(folder / "tiny.py", store=folder / "store", quiet=True)
    return folder, done


@pytest.fixture
def store(finished):
    return harness.open_store(finished[0] / "store")


def test_three_lines_give_the_comparison(here, monkeypatch, capsys):
    monkeypatch.setattr(run_suite, "launch", launching())
    monkeypatch.setattr("harness.records.mirror.mirror.update", lambda *_: None)
    suite = harness.load_suite("tiny.py", "seeds=[0]", "training.steps=20")
    done = harness.run(suite, quiet=True)
    frame = done.comparison()
    assert list(frame.label) == ["full", "in_training", "post_hoc", "small"]
    assert (set(frame.seeds), done.failures) == ({1}, [])
    assert capsys.readouterr() == ("", "")
    written = pd.read_parquet("results/local/suites/tiny/comparison.parquet")
    assert same_numbers(frame, written)
    plan = json.loads(Path("results/local/suites/tiny/plan.json").read_text())
    assert plan["command"].startswith(
        "harness run tiny.py '--set=seeds=[0]' --set=training.steps=20 --store="
    )


def same_numbers(one, other):
    numbers = one.select_dtypes("number").columns
    return len(numbers) > 20 and np.array_equal(
        one[numbers].to_numpy(float), other[numbers].to_numpy(float), equal_nan=True
    )


def test_a_run_says_what_it_took_and_where_it_is(finished):
    _, done = finished
    assert done.failures == []
    assert "8 trials in" in str(done)
    assert done.summary.published
    assert str(done) == repr(done)


@pytest.mark.parametrize(
    ("job", "address", "used"),
    [
        (None, None, "local"),
        ("{}", None, "auto"),
        ("{}", "local", "local"),
        (None, "HOST:6379", "HOST:6379"),
    ],
)
def test_in_a_job_it_runs_on_the_cluster_of_the_job(here, monkeypatch, job, address, used):
    """As the command line does; what was asked for is in the recorded command, the default not."""
    if job is None:
        monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    else:
        monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", job)
    seen = []

    def took(suite, store, command, options):
        seen.append((options.address, f"--address={address}" in command, "--address" in command))
        return run_suite.RunSummary(store.suite(suite.name))

    monkeypatch.setattr(run_suite, "run_suite", took)
    harness.run("tiny.py", "store", address, quiet=True)
    assert seen == [(used, address is not None, address is not None)]


def test_what_fails_is_told_rather_than_raised(here, monkeypatch):
    from tests.launch.test_run_suite import failed

    monkeypatch.setattr(run_suite, "launch", launching(end=failed))
    monkeypatch.setattr("harness.records.mirror.mirror.update", lambda *_: None)
    monkeypatch.setattr("harness.report.write.draw", lambda *_: {})
    done = harness.run("tiny.py", "store", only="*/full", quiet=True)
    assert [line.partition(":")[0] for line in done.failures] == [
        "failed digits/full, seed 0", "failed digits/full, seed 1"
    ]  # fmt: skip


def test_an_interrupted_run_raises_what_ctrl_c_raises(here, monkeypatch):
    monkeypatch.setattr(run_suite, "launch", launching(stop=0))
    with pytest.raises(KeyboardInterrupt, match="the same call goes on"):
        harness.run("tiny.py", "store", quiet=True)


def test_a_plan_can_be_looked_at(here, finished):
    plan = harness.plan("tiny.py", here / "none")
    assert (plan.done, plan.missing) == (0, 8)
    assert str(plan).startswith(f"tiny in {here / 'none'}: 8 trials, 8 missing\nstage 0, ")
    frame = plan.frame()
    assert list(frame.columns) == ["stage", "row", "seed", "state", "trial_id", "needs", "blocked"]
    assert len(frame) == len(plan.trials) == 8
    assert set(frame[frame.row == "digits/post_hoc"].stage) == {1}
    assert not (here / "none").exists()
    plan = harness.plan(harness.load_suite("tiny.py"), finished[0] / "store")
    assert (plan.done, plan.missing) == (8, 0)


def test_frames_of_a_suite_and_of_the_whole_store(here, store):
    folder = store.store.suite("tiny").folder
    assert store.suites() == ["tiny"]
    for name in ("trials", "curves", "truncations", "spectra"):
        whole, of_suite = getattr(store, name)(), getattr(store, name)("tiny")
        stored = pd.read_parquet(folder / f"{name}.parquet")
        assert len(of_suite) == len(stored) > 0
        assert list(of_suite.columns) == list(stored.columns)
        assert set(whole.trial_id) == set(of_suite.trial_id)
    assert len(store.trials()) == len(store.store.ended_trials())
    assert store.trials().label.isna().all()
    assert same_numbers(store.comparison("tiny"), pd.read_parquet(folder / "comparison.parquet"))
    everything = store.comparison()
    assert list(everything.suite) == ["tiny"] * 4
    for given in ("tiny.py", Path("tiny.py"), harness.load_suite("tiny.py")):
        assert same_numbers(store.comparison(given), everything)
    assert same_numbers(everything, store.comparison("tiny"))


def test_without_tables_they_are_gathered_and_nothing_is_written(store, tmp_path):
    shutil.copytree(store.store.root, tmp_path / "store")
    copy = harness.open_store(tmp_path / "store")
    folder = copy.store.suite("tiny").folder
    expected = copy.comparison("tiny"), copy.spectra("tiny")
    for path in [*folder.rglob("*.*")]:
        if path.name != "plan.json" and path.is_file():
            path.unlink()
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    pd.testing.assert_frame_equal(copy.comparison("tiny"), expected[0])
    pd.testing.assert_frame_equal(copy.spectra("tiny"), expected[1])
    copy.trials(), copy.curves(), copy.comparison()
    assert {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_models_come_back(store):
    trials = store.trials("tiny")
    trial_id = trials[trials.label == "in_training"].trial_id.iloc[0]
    model = store.load_model(trial_id)
    folder = Path(store.store.trial(trial_id).place)
    others = harness.load_model(folder), harness.load_model(trial_id, store)
    for other in others:
        for one, two in zip(model.parameters(), other.parameters(), strict=True):
            assert torch.equal(one, two)
    assert not model.training


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (lambda _: harness.open_store("nowhere"), "there is no store /.*/nowhere"),
        (lambda _: harness.open_store("."), "holds neither trials nor suites"),
        (lambda _: harness.open_store("tiny.py"), "is not a folder"),
        (lambda _: harness.open_store(3), "a store is a folder; got 3"),
        (lambda s: s.trials("other"), "no record of a suite 'other' in .*; it has tiny"),
        (lambda s: s.trials("../x"), "no record of a suite"),
        (lambda s: s.comparison(3), "no record of a suite '3'"),
        (lambda s: s.load_model("0" * 16), "has no trial 0000000000000000"),
        (lambda s: s.load_model("../x"), "letters, digits"),
        (lambda _: harness.load_suite("none_such"), "no suite 'none_such'"),
        (lambda _: harness.load_suite("tiny.py", "arms.full.x=1"), "--set arms.full.x"),
        (lambda _: harness.run(3), "a suite is a Suite, its name or its file; got 3"),
        (lambda _: harness.plan("tiny.py", "tiny.py"), "is not a folder"),
        (lambda _: harness.run("tiny.py", "s", retry=["done"]), "retry takes failed or diverged"),
        (lambda _: harness.run("tiny.py", "s", cpus=0), "cpus takes a whole number"),
        (lambda _: harness.run("tiny.py", "s", gpus=float("nan")), "gpus takes 0, a part"),
        (lambda _: harness.run("tiny.py", "s", only="x"), "no row matches"),
        (lambda _: harness.run_trial({"task": {"name": "x"}}, "s"), "task: no name 'x'"),
        (lambda _: harness.run_trial(3, "s"), "a trial is a TrialSpec or the dict of one; got 3"),
    ],
)
def test_bad_input_is_a_value_error_of_one_line(here, store, what, says):
    with pytest.raises(ValueError, match=says) as refused:
        what(store)
    assert "\n" not in str(refused.value)
    assert sorted(path.name for path in here.iterdir()) == ["tiny.py"]


def test_a_damaged_store_is_a_value_error_of_one_line(store, tmp_path):
    shutil.copytree(store.store.root, tmp_path / "store")
    copy = harness.open_store(tmp_path / "store")
    (copy.store.suite("tiny").folder / "trials.parquet").write_bytes(b"torn")
    with pytest.raises(ValueError, match=r"trials\.parquet") as refused:
        copy.comparison("tiny")
    assert "\n" not in str(refused.value)
    trial_id = copy.store.ended_trials()[0]
    (Path(copy.store.trial(trial_id).place) / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(ValueError, match="is damaged"):
        copy.load_model(trial_id)
    (Path(copy.store.trial(trial_id).place) / "spec.json").write_bytes(b"torn")
    trials = copy.trials()
    assert list(trials[trials.status == "damaged"].trial_id) == [trial_id]


def state():
    return (
        torch.get_num_threads(),
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.allow_tf32,
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
        torch.get_rng_state().tolist(),
    )


@pytest.fixture
def of_the_user():
    """A process with settings that no trial of ours would have."""
    with process_as_before():
        torch.set_num_threads(2)
        torch.set_float32_matmul_precision("medium")
        torch.backends.cudnn.allow_tf32 = False
        torch.use_deterministic_algorithms(True, warn_only=False)
        torch.utils.deterministic.fill_uninitialized_memory = False
        torch.manual_seed(7)
        yield state()


def test_one_trial_leaves_the_process_as_it_was(here, of_the_user):
    result = harness.run_trial(SPEC, "store")
    assert state() == of_the_user
    assert result["status"] == "completed"
    assert result["record"]["threads"] == 1
    assert json.loads(next(here.glob("store/trials/*/result.json")).read_text()) == result
    assert harness.run_trial(harness.TrialSpec.model_validate(SPEC), "store") == result


def test_a_trial_that_raises_leaves_the_process_as_it_was(here, of_the_user):
    with pytest.raises(ValueError, match="batch_size 1000000 is larger"):
        harness.run_trial({**SPEC, "training": {"batch_size": 1_000_000}}, "store")
    assert state() == of_the_user


def test_what_is_set_on_a_gpu_is_put_back(monkeypatch, of_the_user):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "of the user")
    seen = set()

    @process_as_before()
    def trial():
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = True
        for precision in ("fp32", "tf32"):
            set_products(precision, torch.device("cuda"))
            seen.add(torch.backends.cudnn.allow_tf32)
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = "of the trial"
        raise KeyError

    with pytest.raises(KeyError):
        trial()
    assert seen == {True, False}
    assert state() == of_the_user
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == "of the user"
