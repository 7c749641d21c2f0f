"""Run a suite: plan, launch, record, report."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from harness.launch import Interrupted, Job, Outcome, launch
from harness.launch.progress import make_progress
from harness.plan import Plan, Planned
from harness.records.collect import collect
from harness.records.files import write_json
from harness.records.store import Store
from harness.suite import Suite


class PlanJobs:
    """A plan as the launcher sees it: what is ready, and what has ended."""

    def __init__(self, plan: Plan, only: str | None = None, cpus: int = 1, gpus: float = 0.0):
        self.plan, self.only, self.cpus, self.gpus = plan, only, cpus, gpus
        self.given: set[str] = set()
        self.faulted: dict[str, str] = {}

    def ready(self) -> list[Job]:
        """Jobs that can start and were not handed out yet."""
        self.plan.resolve()
        rows = [r for r in self.plan.missing() if self._wanted(r) and self.plan.ready(r)]
        jobs = [self._job(row) for row in rows]
        fresh = [job for job in jobs if job.trial_id not in self.given]
        self.given |= {job.trial_id for job in fresh}
        return fresh

    def done(self, trial_id: str, outcome: Outcome) -> None:
        """A trial has ended, or its machines gave up on it."""
        if outcome.status == "faulted" or not self.plan.store.trial(trial_id).ended():
            self.faulted[trial_id] = outcome.message or outcome.status
            for row in self.plan.rows:
                if trial_id in row.needs and row.blocked is None:
                    row.blocked = f"{trial_id}, which it needs, did not end"

    def pending(self) -> int:
        """Roles whose trial was not handed out yet and is not in the store."""
        states = [(row, self.plan.state(row)) for row in self.plan.rows if self._wanted(row)]
        return sum(
            state == "waiting"
            or (state == "missing" and row.spec is not None and row.spec.trial_id not in self.given)
            for row, state in states
        )

    def _wanted(self, row: Planned) -> bool:
        return self.only is None or fnmatch(f"{row.role.task}/{row.role.label}", self.only)

    def _job(self, row: Planned) -> Job:
        assert row.spec is not None
        label = f"{row.role.task}/{row.role.label}"
        spec = row.spec.model_dump(mode="json")
        return Job(row.spec.trial_id, spec, label, cpus=self.cpus, gpus=self.gpus)


def run_suite(
    suite: Suite,
    store: Store,
    *,
    command: str,
    address: str = "local",
    only: str | None = None,
    retry: Sequence[str] = (),
    cpus: int = 1,
    gpus: float = 0.0,
    concurrency: int | None = None,
) -> tuple[Path, int]:
    """Launch what is missing, then collect, report and mirror. Returns (page, unfinished roles).

    Raises:
        ValueError: bad input, before anything starts.
        KeyboardInterrupt: interrupted; what had ended is collected and reported.
    """
    plan = Plan(suite, store)
    wipe(plan, retry)
    jobs = PlanJobs(plan, only, cpus, gpus)
    begun = time.time()
    interrupted = False
    if jobs.pending():
        try:
            launch(
                jobs,
                store.root,
                address=address,
                concurrency=concurrency,
                progress=make_progress(sys.stderr),
            )
        except Interrupted:
            interrupted = True
    page = finish(plan, command, begun)
    if interrupted:
        raise KeyboardInterrupt
    states = [plan.state(row) for row in plan.rows]
    return page, sum(state not in ("completed", "diverged") for state in states)


def wipe(plan: Plan, retry: Sequence[str]) -> None:
    """Forget ended trials of the suite whose status is to be retried."""
    for row in plan.rows:
        if row.spec is not None and plan.state(row) in retry:
            plan.store.trial(row.spec.trial_id).wipe()
    if retry:
        for row in plan.rows:
            row.spec, row.blocked = None, None
        plan.resolve()


def finish(plan: Plan, command: str, begun: float) -> Path:
    """Write the suite's tables, report and mirror from what has ended."""
    from harness.records.mirror import mirror
    from harness.report import write_report

    plan.resolve()
    store, name = plan.store, plan.suite.name
    record = {**plan.record(), "command": command}
    write_json(store.suite(name) / "plan.json", record)
    page = store.suite(name) / "index.html"
    if not any(store.trial(entry["trial_id"]).ended() for entry in record["trials"]):
        return page
    collect(store, name, record)
    write_report(store.suite(name), name, command)
    launch_record = {"id": secrets.token_hex(8), "command": command, "begun": begun}
    mirror(store, name, launch_record)
    return page
