"""Two launches at once on one store, as processes on a running cluster."""

from __future__ import annotations

import os
import re
import subprocess
import time

import pytest

from harness.launch.plan_jobs import PlanJobs
from harness.planning.plan import Plan
from harness.records.store import Store
from harness.suite import load
from tests.cli.test_process import HARNESS, PATHS
from tests.launch.test_launch import trial_workers
from tests.training.test_forks import assert_same_but_cheaper
from tests.tune.playing import run as run_job

SUITE = """
from harness.suite import *

suite = Suite(
    name="shared",
    comparisons=(
        Comparison(
            task=TaskSpec(name="digits"),
            model=LRUSpec(blocks=1, width=4, state_dim=8),
            training=TrainingSpec(steps=300, batch_size=20, evaluate_every=100, lr=0.01),
            arms={
                "full": FullSpec(kind="full"),
                "in_training": InTrainingSpec(kind="in_training", tau=0.3, end=0.5, count=2),
                "post_hoc": PostHocSpec(kind="post_hoc", tau=0.2),
            },
            seeds=(0, 1, 2),
        ),
    ),
)
"""
LONG_ENOUGH = 240  # seconds, on a machine with other work


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The suite's plan in a store where its trials ran one after another, without Ray."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "shared.py").write_text(SUITE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_DEVICE", "cpu")
        patch.chdir(folder)
        store = Store(folder / "store")
        jobs = PlanJobs(Plan(load("shared.py"), store), fork=False)
        while waiting := jobs.ready():
            for job in waiting:
                jobs.done(job.trial_id, run_job(job, store))
    return jobs.plan


class Run:
    """A `harness run` of the suite, with one trial at a time."""

    def __init__(self, folder, number, address):
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HARNESS_")}
        options = ["--store", "store", "--address", address, "--concurrency", "1"]
        self.log = folder / f"{number}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*HARNESS, "run", "shared.py", *options],
                cwd=folder,
                env={**kept, "PYTHONPATH": PATHS, "HARNESS_CHECKPOINT_SECONDS": "0"},
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    @property
    def said(self):
        return self.log.read_text()

    def until(self, condition, end=False):
        """Wait until the condition holds, or the end of the process."""
        deadline = time.monotonic() + LONG_ENOUGH
        while not condition() and time.monotonic() < deadline:
            assert end or self.process.poll() is None, self.said
            time.sleep(0.02)
        assert condition(), self.said

    def code(self):
        """The exit code, after the end."""
        self.until(lambda: self.process.poll() is not None, end=True)
        return self.process.returncode


@pytest.fixture
def start(tmp_path, ray_address, undisturbed):
    """Starts a run; whatever lives is ended."""
    (tmp_path / "shared.py").write_text(SUITE)
    started = []

    def begin():
        started.append(Run(tmp_path, len(started), ray_address))
        return started[-1]

    yield begin
    for run in started:
        run.process.kill()
        run.process.wait()


def assert_undisturbed(store, undisturbed):
    trials = {row.spec.trial_id for row in undisturbed.rows}
    assert set(store.ended_trials()) == trials
    for trial_id in trials:
        assert_same_but_cheaper(store, undisturbed.store, trial_id)


class Ends:
    """The results that a store has had: a trial that ends twice has had two."""

    def __init__(self, store):
        self.store, self.seen = store, set()

    def look(self):
        for trial_id in self.store.ended_trials():
            found = (self.store.trial(trial_id).path / "result.json").stat()
            self.seen.add((trial_id, found.st_ino, found.st_mtime_ns))
        return len(self.seen)


def test_they_share_the_work_and_both_have_all_results(tmp_path, start, undisturbed):
    store = Store(tmp_path / "store")
    ends, runs = Ends(store), [start(), start()]
    for run in runs:
        run.until(lambda run=run: ends.look() < 0 or run.process.poll() is not None, end=True)
    said = "\n".join(run.said for run in runs)
    assert [run.code() for run in runs] == [0, 0], said
    assert ends.look() == len(undisturbed.rows)
    assert not re.search(r"faulted|trial \w+ is being run|\(attempt", said)
    assert_undisturbed(store, undisturbed)


@pytest.mark.slow
def test_what_a_killed_launch_was_at_is_taken_over(tmp_path, start, undisturbed):
    store, first = Store(tmp_path / "store"), start()
    first.until(lambda: list(store.root.glob("trials/*/checkpoint/*.safetensors")))
    for worker in trial_workers():
        worker.suspend()  # in the middle of a trial, which it holds
    (held,) = store.root.glob("trials/*/checkpoint/*.safetensors")
    second = start()
    second.until(lambda: "waiting for 1 trial that another launch runs" in second.said)
    assert held.exists()
    first.process.kill()
    assert second.code() == 0, second.said
    assert store.trial(held.parents[1].name).result()["record"]["restarts"] >= 1
    assert_undisturbed(store, undisturbed)
