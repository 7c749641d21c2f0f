"""README.md, "From Python": what it shows is what happens."""

import doctest
import os
from pathlib import Path

import pytest

from harness.environment import VARIABLES
from harness.launch import run_suite
from tests.tune.playing import launching

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, without settings, and a launch without Ray."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)
    monkeypatch.setenv("HARNESS_DEVICE", "cpu")
    monkeypatch.setattr(run_suite, "launch", launching())
    monkeypatch.setattr("harness.records.mirror.mirror.update", lambda *_: None)
    monkeypatch.setattr("harness.report.write.draw", lambda *_: {})
    monkeypatch.setattr("harness.report.ranks.rank_figure.draw", lambda *_: {})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_the_readme_shows_from_python_is_what_happens(here):
    failed, tried = doctest.testfile(str(README), module_relative=False, encoding="utf-8")
    assert failed == 0
    assert tried > 12
    assert os.listdir(here) == ["records"]
