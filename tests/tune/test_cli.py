"""`harness tune` on a terminal: refusals in one line, a kill, and what it leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from harness.cli.app import execute
from harness.records.store import Store
from harness.tune.search.ask_and_tell import open_search

from .playing import STUDY, concluded, play, tiny_study

FILE = """
import json
from harness.tune import Study
study = Study.model_validate_json(json.dumps({content}))
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory, and `write(**changes)` for a study's file in it."""
    for name in ("HARNESS_STORE", "HARNESS_DATA", "HARNESS_THREADS", "HARNESS_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)

    def write(**changes):
        (tmp_path / "mine.py").write_text(FILE.replace("{content}", repr(STUDY | changes)))
        return "mine.py:study"

    return write


def refused(capsys, *arguments):
    """What a command line that must be refused says; nothing may be written by it."""
    before = paths()
    began = time.monotonic()
    assert execute(list(arguments)) == 2
    assert time.monotonic() - began < 20
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("harness: ")
    assert err.count("\n") == 1
    assert paths() == before
    return err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"space": STUDY["space"] | {"tau": {"low": 0.2, "high": 0.2}}}, "0.2 to 0.2 is empty"),
        ({"space": STUDY["space"] | {"start": {"low": 0.4, "high": 0.1}}}, "is inverted"),
        ({"space": STUDY["space"] | {"count": {"low": 1, "high": 9}}}, "more than the 8 grid"),
        ({"margin": -0.1}, "margin must not be negative"),
        ({"sampler": "random"}, "sampler: Input should be 'tpe' or 'nsga2'"),
        ({"budget": {"candidates": 0}}, "fewer than one candidate"),
        ({"budget": {"candidates": 6}}, "no whole number of batches of 4"),
        ({"budget": {"flops": 1e6}}, "less than the full model and one batch"),
        ({"base": STUDY["base"] | {"arm": {"kind": "full"}}}, "is in_training, not full"),
        ({"margin": 0.001}, "finer than two of the"),
    ],
)
def test_bad_studies(here, capsys, changes, said):
    assert said in refused(capsys, "tune", here(**changes))


def test_what_is_not_a_study_and_what_is_not_a_suite(here, capsys):
    assert "has no study 'suite'" in refused(capsys, "tune", "demo")
    assert "has no suite 'study'" in refused(capsys, "run", here())
    assert "no record of study tiny" in refused(capsys, "report", here())
    assert "no suite file nobody.py" in refused(capsys, "tune", "nobody.py")


def test_a_storage_and_an_address_that_nobody_answers(here, capsys):
    study = here()
    storage = "postgresql://nobody@127.0.0.1:9/none"
    assert "127.0.0.1:9" in refused(capsys, "tune", study, "--storage", storage)
    assert "no Ray cluster answers" in refused(capsys, "tune", study, "--address", "127.0.0.1:9")


def paths():
    """All paths here but those of claims, which count their owners."""
    return sorted(path for path in Path().rglob("*") if ".claims" not in path.parts)


def test_another_space_and_another_driver(here, capsys):
    place = Store.open("results/local")
    with open_search(tiny_study(), None, place) as search:
        search.batch(0)
        assert "tiny" in refused(capsys, "tune", here())
    said = refused(capsys, "tune", here(margin=0.4))
    assert "holds another study tiny: margin is 0.5 there and 0.4 here" in said


def test_a_plan_before_anything_runs(here, capsys):
    assert execute(["plan", here()]) == 0
    assert "with every trial run alone" in capsys.readouterr().out
    assert execute(["plan", here(), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["candidates"] == 8
    assert not Path("results").exists()


@pytest.mark.slow
def test_killed_under_ray_it_goes_on_to_the_same_end(here, tmp_path, monkeypatch):
    """SIGKILL in the midst of a search with two workers, and an undisturbed study without Ray."""
    monkeypatch.setenv("HARNESS_DEVICE", "cpu")
    undisturbed = Store.open(tmp_path / "undisturbed")
    study = tiny_study(budget={"candidates": 4})
    play(study, undisturbed)
    harness = [str(Path(sys.executable).with_name("harness")), "tune"]
    harness += [here(budget={"candidates": 4}), "--store", "mine", "--concurrency", "2"]
    child = subprocess.Popen(harness, stderr=subprocess.DEVNULL, start_new_session=True)
    mine = Store.open("mine")
    deadline = time.monotonic() + 120
    while len(mine.ended_trials()) < 6 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert child.poll() is None
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    done = subprocess.run(harness, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "**tiny**" in done.stdout
    assert concluded(mine)["candidates"] == concluded(undisturbed)["candidates"]
    assert concluded(mine)["finalists"] == concluded(undisturbed)["finalists"]
    listed = pd.read_csv("mine/suites/tiny/candidates.csv")
    assert len(listed) == 4 * len(study.seeds)
    assert execute(["report", "mine.py:study", "--store", "mine"]) == 0
    assert execute(["table", "mine.py:study", "--store", "mine"]) == 0
