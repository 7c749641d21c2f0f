"""The suite that runs while hosts break, and what must hold of its results afterwards."""

from __future__ import annotations

import contextlib

import psutil

from harness.launch.plan_jobs import PlanJobs
from harness.planning.plan import Plan
from harness.records.store import Store
from harness.suite import load
from tests.faults import leftovers
from tests.launch.test_two_launches import assert_undisturbed
from tests.tune.playing import run as run_job

PACE = "TESTS_PACE"
# A trial takes as long as a test needs, on any machine, and leaves its processors to others.
SUITE = f"""
import os
import time
from typing import Literal

import harness
from harness.suite import *


class Paced:
    def after_evaluation(self, here, value):
        time.sleep(float(os.environ.get("{PACE}", "0")))  # 40 times


@harness.arm
class PacedFull(Paced, FullSpec):
    kind: Literal["paced_full"] = "paced_full"


@harness.arm
class PacedInTraining(Paced, InTrainingSpec):
    kind: Literal["paced_in_training"] = "paced_in_training"


suite = Suite(
    name="faults",
    comparisons=(
        Comparison(
            task=TaskSpec(name="digits"),
            model=LRUSpec(blocks=1, width=8, state_dim=16),
            training=TrainingSpec(steps=400, batch_size=20, evaluate_every=10, lr=0.01),
            arms={{
                "full": FullSpec(kind="full"),
                "paced": PacedFull(),
                "in_training": PacedInTraining(tau=0.2, end=0.5, count=2),
                "post_hoc": PostHocSpec(kind="post_hoc", tau=0.2),
            }},
            seeds=(0, 1),
        ),
    ),
)
"""


def run_undisturbed(folder) -> Plan:
    """The suite's plan, with its trials run one after another in this process."""
    (folder / "suite.py").write_text(SUITE)
    store = Store(folder / "store")
    jobs = PlanJobs(Plan(load(str(folder / "suite.py")), store), fork=False)
    while waiting := jobs.ready():
        for job in waiting:
            jobs.done(job.trial_id, run_job(job, store))
    return jobs.plan


def assert_whole(run, undisturbed: Plan) -> None:
    """Every trial has ended once, with the bits of an undisturbed run, and nothing is left."""
    assert_undisturbed(run.store, undisturbed)
    assert len(run.results) == len({trial_id for trial_id, *_ in run.results}), "ended twice"
    assert {trial_id for trial_id, *_ in run.results} == set(run.store.ended_trials())
    assert leftovers(run.store.root) == []
    for trial_id in run.store.ended_trials():
        trial = run.store.trial(trial_id)
        counts = {str(trial.result().get("epoch", 0))} - {"0"}
        assert set(run.store.storage.children(f"trials/{trial_id}/epochs/")) == counts


def assert_idle(run, seconds: float = 60) -> None:
    """No host is at a trial any more, or soon."""
    run.cluster.until(lambda: not _workers(run), "the end of all workers", seconds)


def _workers(run):
    found = []
    for process in (one for host in run.cluster.workers for one in host.processes()):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "TrialWorker" in " ".join(process.cmdline()):  # as Ray titles them
                found.append(process)
    return found
