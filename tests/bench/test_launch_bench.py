"""Overhead per trial: right from a made-up summary, and whole from a run of a few trials."""

import json

import pytest

from harness.bench import launch_bench as launch
from harness.cli.app import execute
from harness.launch.run_suite import RunSummary


def test_rates_and_overhead(tmp_path, machine):
    summary = RunSummary(tmp_path, seconds=20.0, launched=4, seconds_launch=0.5, seconds_report=2.0)
    found = launch.summarise(summary, own=[1.0, 2.0, 9.0, 2.0], ends=[13.0, 10.0, 12.0, 16.0])
    assert found["overhead_seconds_per_trial"] == pytest.approx(0.5 + 2.0 / 4)
    assert found["report_seconds_per_trial"] == pytest.approx(0.5)
    assert found["own_seconds_per_trial"] == 2.0
    assert found["warm_trials_per_second"] == pytest.approx(3 / 6)
    assert found["trials_per_second"] == pytest.approx(4 / 20)
    lines = launch.lines({"machine": machine, **found})
    assert max(map(len, lines)) <= 120
    assert any(line.split()[-1:] == ["1000"] for line in lines if "overhead" in line)


def test_how_many_trials():
    assert launch.count(None, quick=True) < launch.count(None, quick=False)
    assert launch.count(7, quick=True) == 7
    assert len({role.trial.seed for role in launch.tiny(7).roles()}) == 7


@pytest.mark.slow
def test_a_run_of_three_trials(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert execute(["bench", "launch", "--trials", "3", "--concurrency", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["trials"] == 3
    assert result["warm_trials_per_second"] > 0
    assert result["overhead_seconds_per_trial"] > 0
    assert not list(tmp_path.glob("harness-bench-*"))  # the store was a temporary one
