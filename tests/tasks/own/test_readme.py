"""The examples of harness/tasks/README.md run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import harness.tasks
from harness.cli.app import execute
from harness.planning.plan import Plan
from harness.records.store import Store
from harness.suite import load, override
from harness.training.trial import run_trial

from . import test_audio
from .conftest import sequences

README = (Path(harness.tasks.__file__).parent / "README.md").read_text(encoding="utf-8")
SECTION = README.partition("## Your own data")[2].partition("\n## ")[0]
SUITES = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
COMMANDS = re.search(r"```\n(harness .*?)```", SECTION, re.DOTALL)[1].splitlines()


@pytest.fixture
def files(here):
    x, y = sequences()
    np.savez("mine.npz", x=x, y=y)
    u = np.random.default_rng(0).normal(size=2000)
    pd.DataFrame({"u": u, "y": np.convolve(u, [0.5, 0.3, 0.2])[:2000]}).to_csv("recording.csv")
    (here / "notes").mkdir()
    (here / "notes" / "a.txt").write_text("the quick brown fox " * 300)
    test_audio.write(here / "calls")
    return here


def test_there_are_as_many_as_tasks():
    assert len(SUITES) == len(COMMANDS) == 3


@pytest.mark.parametrize("number", range(3))
def test_suites(files, number):
    (files / "own.py").write_text(SUITES[number])
    suite = override(load("own.py"), ["training.steps=40", "training.evaluate_every=40"])
    store = Store.open(files / "store", create=True)
    for row in Plan(suite, store).rows:
        if row.role.trial.seed == 0:
            assert run_trial(row.spec, store)["status"] == "completed", row.name


@pytest.mark.parametrize("number", range(3))
def test_commands(files, capsys, number):
    assert execute(COMMANDS[number].split()[1:]) == 0
    sample = Path(capsys.readouterr().out.splitlines()[-1])
    assert sample.suffix == (".png", ".txt", ".wav")[number]
    assert sample.stat().st_size > 100
