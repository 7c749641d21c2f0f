"""A stranger's path: run, interrupt, go on, run again, change a line, pay only for what is new."""

import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

HARNESS = [str(Path(sys.executable).with_name("harness"))]
SLOW_STEPS = 20_000


def harness(folder, *arguments, **options):
    """Run the command in a process of its own."""
    return subprocess.run(
        [*HARNESS, *arguments], cwd=folder, capture_output=True, text=True, timeout=240, **options
    )


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A folder in which the tiny suite was run, and what that printed."""
    from tests.cli.conftest import TINY

    folder = tmp_path_factory.mktemp("ran")
    (folder / "tiny.py").write_text(TINY)
    return folder, harness(folder, "run", "tiny.py")


def trials_of(folder):
    return pd.read_parquet(folder / "results" / "local" / "suites" / "tiny" / "trials.parquet")


def times(folder):
    trials = folder / "results" / "local" / "trials"
    return {p.parent.name: p.stat().st_mtime_ns for p in trials.glob("*/result.json")}


def test_a_run_ends_in_a_table_files_and_a_page(ran):
    folder, done = ran
    assert done.returncode == 0, done.stderr
    for word in ("full", "in_training", "post_hoc", "small", "digits: accuracy"):
        assert word in done.stdout
    assert "8 trials in" in done.stderr
    assert "of overhead a trial" in done.stderr
    assert "peak memory of all processes" in done.stderr
    suite = folder / "results" / "local" / "suites" / "tiny"
    names = {p.name for p in suite.iterdir()}
    assert names >= {
        "plan.json", "trials.parquet", "curves.parquet", "truncations.parquet", "spectra.parquet",
        "comparison.parquet", "comparison.md", "comparison.csv", "comparison.tex", "index.html",
    }  # fmt: skip
    assert (folder / "results" / "local" / "mlflow.db").is_file()
    trials = trials_of(folder)
    assert set(trials.status) == {"completed"}
    assert list(trials.label.value_counts()) == [2, 2, 2, 2]
    sizes = trials.set_index(["label", "seed"]).state_dim_total
    assert sizes["in_training"].equals(sizes["post_hoc"])
    assert sizes["small"].nunique() == 1
    assert sizes["small"][0] == round(sizes["in_training"].mean())


def test_again_trains_nothing_and_one_new_line_only_what_is_new(ran, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(ran[0], folder)
    before = times(folder)
    again = harness(folder, "run", "tiny.py")
    assert again.returncode == 0, again.stderr
    assert "nothing was missing" in again.stderr
    assert times(folder) == before
    grown = (folder / "tiny.py").read_text().replace("seeds=(0, 1)", "seeds=(0, 1, 2)")
    (folder / "tiny.py").write_text(grown)
    plan = json.loads(harness(folder, "plan", "tiny.py", "--json").stdout)
    assert sum(stage["missing"] for stage in plan["stages"]) == 6  # `small` takes the new mean
    more = harness(folder, "run", "tiny.py")
    assert more.returncode == 0, more.stderr
    after = times(folder)
    assert {name: after[name] for name in before} == before
    assert len(trials_of(folder)) == 12


def test_reports_come_from_records_alone(ran, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(ran[0], folder)
    store = folder / "results" / "local"
    table = harness(folder, "table", "tiny.py").stdout
    assert table == ran[1].stdout
    for path in (store / "mlflow.db", *(store / "suites" / "tiny").glob("*.*")):
        if path.name not in ("plan.json", "launches.json"):
            path.unlink()
    shutil.rmtree(store / "mlartifacts")
    report = harness(folder, "report", "tiny.py")
    assert report.returncode == 0, report.stderr
    assert Path(report.stdout.strip()).is_file()
    assert (store / "mlflow.db").is_file()
    assert harness(folder, "table", "tiny.py").stdout == table
    (folder / "tiny.py").unlink()
    assert harness(folder, "table", "tiny").stdout == table
    assert harness(folder, "report", "tiny").stdout == report.stdout
    rows = json.loads(harness(folder, "table", "tiny", "--format", "json").stdout)
    assert len(rows["rows"] if isinstance(rows, dict) else rows) == 4


def test_differences_over_full_are_those_of_the_table(ran):
    folder = ran[0]
    suite = folder / "results" / "local" / "suites" / "tiny"
    printed = harness(folder, "table", "tiny", "--over", "full", "--format", "csv").stdout
    found = pd.read_csv(io.StringIO(printed)).set_index("label")
    table = pd.read_parquet(suite / "comparison.parquet").set_index("label").drop("full")
    assert set(found.index) == set(table.index)
    for end in ("", "_low", "_high"):
        expected = table[f"difference_to_full{end}"][found.index]
        assert list(found[f"difference{end}"]) == pytest.approx(list(expected))
    assert list(found.relative_flops) == pytest.approx(list(table.relative_flops[found.index]))
    refused = harness(folder, "table", "tiny", "--over", "nothing")
    assert refused.returncode == 2
    assert "no row is called 'nothing'; use FIELD=VALUE or one of full," in refused.stderr


@pytest.mark.slow
def test_only_takes_what_its_rows_need(tmp_path, ran):
    shutil.copy(ran[0] / "tiny.py", tmp_path)
    done = harness(tmp_path, "run", "tiny.py", "--only", "digits/post_hoc", "--set", "seeds=[0]")
    assert done.returncode == 0, done.stderr
    assert set(trials_of(tmp_path).label) == {"full", "in_training", "post_hoc"}


@pytest.mark.slow
def test_what_diverged_is_a_result_and_can_be_asked_for_again(tmp_path, ran):
    shutil.copy(ran[0] / "tiny.py", tmp_path)
    wild = ("--set", "training.lr=1e30", "--set", "seeds=[0]")
    done = harness(tmp_path, "run", "tiny.py", *wild)
    # Without a full model and a size to match, the others cannot run: not all is done.
    assert done.returncode == 3, done.stderr
    assert "blocked digits/post_hoc, seed 0:" in done.stderr
    assert "diverged" in done.stdout
    before = times(tmp_path)
    assert len(before) == 2
    assert harness(tmp_path, "run", "tiny.py", *wild).returncode == 3
    assert times(tmp_path) == before
    assert harness(tmp_path, "run", "tiny.py", *wild, "--retry", "diverged").returncode == 3
    assert all(times(tmp_path)[name] > before[name] for name in before)


def test_ctrl_c_keeps_what_was_done_and_says_how_to_go_on(tmp_path, ran):
    shutil.copytree(ran[0], tmp_path, dirs_exist_ok=True)
    before = times(tmp_path)
    slow = ["run", "tiny.py", "--set", f"training.steps={SLOW_STEPS}", "--set", "seeds=[0]"]
    known = set((tmp_path / "results" / "local" / "trials").glob("*/manifest.json"))
    running = subprocess.Popen(
        [*HARNESS, *slow],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    trials = tmp_path / "results" / "local" / "trials"
    deadline = time.monotonic() + 90
    while set(trials.glob("*/manifest.json")) == known:
        assert time.monotonic() < deadline, "no trial began"
        assert running.poll() is None, running.communicate()
        time.sleep(0.1)
    time.sleep(2.0)
    os.killpg(running.pid, signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert f"Go on with: {shlex.join(['harness', *slow])}" in err
    assert "Traceback" not in err
    assert times(tmp_path) == before
    assert list(trials.glob("*/checkpoint/*"))
    assert harness(tmp_path, "table", "tiny").stdout == ran[1].stdout  # the run before
    assert harness(tmp_path, "report", "tiny").returncode == 0
