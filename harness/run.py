"""Run a suite: plan, launch, record, report."""

from __future__ import annotations

import secrets
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.checks import check_launch, default_cpus
from harness.launch import Interrupted, Job, Outcome, launch
from harness.launch.jobs import Jobs
from harness.launch.memory import PeakMemory
from harness.launch.progress import make_progress
from harness.plan import Plan, Planned
from harness.records.collect import collect
from harness.records.sealed import write_sealed
from harness.records.states import Damaged
from harness.records.store import Store
from harness.sharing import arrange
from harness.suite import Suite, TrialSpec


@dataclass(frozen=True)
class Wishes:
    """How to run a suite; nothing that changes its numbers."""

    address: str = "local"
    only: str | None = None
    retry: Sequence[str] = ()
    cpus: int = field(default_factory=default_cpus)
    gpus: float = 0.0
    concurrency: int | None = None
    share: bool = True  # begin trials where they part from others


@dataclass
class Account:
    """What a run did and what it took."""

    page: Path
    seconds: float = 0.0
    launched: int = 0
    seconds_launch: float | None = None  # a trial's, beyond its own seconds; the median
    seconds_report: float = 0.0
    peak_memory_bytes: int | None = None  # all processes; None on a cluster of others
    flops: float = 0.0  # training FLOPs that the ended trials stand for
    flops_spent: float = 0.0  # those that were done here: less where beginnings were shared
    unfinished: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)  # records that are left out, and what to do
    interrupted: bool = False

    @property
    def overhead(self) -> float | None:
        """Seconds per trial that went to launching, recording, reporting and mirroring it."""
        if self.seconds_launch is None:
            return None
        return self.seconds_launch + self.seconds_report / self.launched

    def lines(self) -> list[str]:
        """For a person to read."""
        if not self.launched and self.interrupted:
            return ["interrupted before a trial had ended"]
        if not self.launched:
            return [f"nothing was missing; tables and page took {self.seconds_report:.1f} s"]
        said = f"{self.launched} trials in {self.seconds:.0f} s"
        if self.overhead is not None:
            said += f"; {self.overhead:.2f} s of overhead a trial (launch, record, mirror)"
        if self.peak_memory_bytes:
            said += f"; peak memory of all processes {self.peak_memory_bytes / 2**30:.2f} GiB"
        if self.flops_spent < self.flops:
            said += f"; sharing saved {1 - self.flops_spent / self.flops:.0%} of the training FLOPs"
        return [said]


class PlanJobs:
    """A plan as the launcher sees it: what is ready, and what has ended."""

    def __init__(
        self,
        plan: Plan,
        only: str | None = None,
        cpus: int = 1,
        gpus: float = 0.0,
        share: bool = True,
        keep_at: Mapping[str, Iterable[int]] | None = None,
        parents: Iterable[TrialSpec] = (),
    ):
        self.plan, self.cpus, self.gpus = plan, cpus, gpus
        self.rows = plan.select(only)
        specs = [row.spec for row in self.rows if row.spec is not None] + list(parents)
        specs = specs if share else []
        self.sharing = arrange(specs, plan.store, plan.ended, keep_at)
        self.given: set[str] = set()
        self.faulted: dict[str, str] = {}
        self.begun: dict[str, float] = {}
        for row in self.rows:
            plan.state(row)  # so that `pending`, which is asked often, reads no file

    def ready(self) -> list[Job]:
        """Jobs that can start and were not handed out yet."""
        self.plan.resolve()
        missing = [row for row in self.plan.missing(self.rows) if self._can_begin(row)]
        jobs = [self._job(row) for row in missing]
        fresh = [job for job in jobs if job.trial_id not in self.given]
        self.given |= {job.trial_id for job in fresh}
        return fresh

    def done(self, trial_id: str, outcome: Outcome) -> None:
        """A trial has ended, or its machines gave up on it."""
        if outcome.status != "faulted" and self.plan.result(trial_id) is not None:
            self.sharing.ended(trial_id)
            return
        self.faulted[trial_id] = outcome.message or outcome.status
        for row in self.plan.rows:
            if trial_id in row.needs and row.blocked is None:
                row.blocked = f"{trial_id}, which it needs, did not end"

    def pending(self) -> int:
        """Roles whose trial was not handed out yet and is not in the store."""
        over = self.given | self.plan.results.keys() | self.plan.damaged.keys()
        return sum(
            row.spec is None or row.spec.trial_id not in over
            for row in self.rows
            if row.blocked is None
        )

    def note(self) -> str:
        """Nothing beyond the counts."""
        return ""

    def unfinished(self) -> list[str]:
        """What has no result that counts, one line each."""
        lines = []
        for row in self.rows:
            state = self.plan.state(row)
            if state in ("completed", "diverged"):
                continue
            trial_id = row.spec.trial_id if row.spec else ""
            reason = row.blocked or self.faulted.get(trial_id)
            result = self.plan.result(trial_id) if trial_id else None
            reason = (result or {}).get("message") or self.plan.damaged.get(trial_id) or reason
            said = f"{state} {row.name}, seed {row.role.trial.seed}"
            lines.append(f"{said}: {reason}" if reason else said)
        return lines

    def _can_begin(self, row: Planned) -> bool:
        """Whether all that the trial needs is there, or will never be."""
        assert row.spec is not None
        if not self.plan.ready(row):
            return False
        fork = self.sharing.forks.get(row.spec.trial_id)
        if fork is None or self.sharing.is_there(row.spec.trial_id):
            return True
        return self.plan.ended(fork[0]) or fork[0] in self.faulted

    def _job(self, row: Planned) -> Job:
        assert row.spec is not None
        trial_id = row.spec.trial_id
        return Job(
            trial_id,
            row.spec.model_dump(mode="json"),
            row.name,
            cpus=self.cpus,
            gpus=self.gpus,
            fork=self.sharing.forks.get(trial_id),
            keep_at=tuple(sorted(self.sharing.keep_at.get(trial_id, ()))),
        )


def run_suite(suite: Suite, store: Store, command: str, wishes: Wishes | None = None) -> Account:
    """Launch what is missing, then collect, report and mirror.

    An interrupted run is collected and reported too, and its account says so.

    Raises:
        ValueError: bad input, before anything starts or is written.
    """
    wishes = wishes or Wishes()
    plan = Plan(suite, store)
    plan.forget(wishes.retry, plan.select(wishes.only))
    jobs = PlanJobs(plan, wishes.only, wishes.cpus, wishes.gpus, wishes.share)
    account = Account(store.suite(suite.name) / "index.html")
    begun, start = time.time(), time.perf_counter()
    if jobs.pending():
        # What has ended may have needed more than this machine has.
        todo = (row for row in jobs.rows if plan.state(row) in ("missing", "waiting"))
        trials = (row.spec or row.role.trial for row in todo)
        check_launch(trials, wishes.address, wishes.cpus, wishes.gpus)
        _launch(jobs, wishes, command, account)
    account.seconds_report = publish(plan, command, begun, account)
    account.seconds = time.perf_counter() - start
    account.unfinished = jobs.unfinished()
    return account


def _launch(jobs: PlanJobs, wishes: Wishes, command: str, account: Account) -> None:
    plan = jobs.plan

    def begin() -> None:
        """Nothing can be refused any more: write."""
        plan.wipe()
        jobs.sharing.sweep()
        _write_plan(plan, command)

    launch_and_account(jobs, plan.store, wishes, account, begin)


def launch_and_account(
    jobs: Jobs,
    store: Store,
    wishes: Wishes,
    account: Account,
    begin: Callable[[], None] = lambda: None,
) -> None:
    """Launch jobs and note in the account what that took, interrupted or not."""
    with PeakMemory() as memory:
        try:
            ended = launch(
                jobs,
                store.root,
                address=wishes.address,
                concurrency=wishes.concurrency,
                progress=make_progress(sys.stderr),
                begin=begin,
            )
        except Interrupted as interrupted:
            ended = interrupted.outcomes
            account.interrupted = True
    results = {job.trial_id: _result(store, job.trial_id) for job, _ in ended}
    records = {trial_id: one["record"] for trial_id, one in results.items() if one is not None}
    account.launched = len(ended)
    account.flops = sum(record["train_flops"] for record in records.values())
    account.flops_spent = sum(record["flops_spent"] for record in records.values())
    account.seconds_launch = _launch_seconds(records, ended)
    if wishes.address == "local":
        account.peak_memory_bytes = memory.bytes


def _result(store: Store, trial_id: str) -> dict[str, Any] | None:
    """A trial's result; None for one that has not ended, or whose record is damaged."""
    try:
        return store.trial(trial_id).result()
    except Damaged:
        return None


def _launch_seconds(
    records: Mapping[str, Mapping[str, Any]], ended: Sequence[tuple[Job, Outcome]]
) -> float | None:
    """Median seconds from handing out a trial to seeing its end, beyond the trial's own.

    The median, since the first trial of every worker waits for its process to start.
    """
    beyond = [
        outcome.seconds - records[job.trial_id]["seconds_spent"]
        for job, outcome in ended
        if job.trial_id in records and records[job.trial_id]["restarts"] == 0
    ]
    return statistics.median(beyond) if beyond else None


def _write_plan(plan: Plan, command: str) -> dict[str, Any]:
    record = {**plan.record(), "command": command}
    write_sealed(plan.store.suite(plan.suite.name) / "plan.json", record)
    return record


def publish(plan: Plan, command: str, begun: float, account: Account) -> float:
    """Write the suite's tables, report and mirror from what has ended; returns the seconds."""
    from harness.records.mirror import mirror
    from harness.report import write_report

    start = time.perf_counter()
    plan.resolve()
    store, name = plan.store, plan.suite.name
    record = plan.record()
    if not any(plan.result(entry["trial_id"]) for entry in record["trials"]):
        return 0.0
    record = _write_plan(plan, command)
    account.damaged += [one for one in collect(store, name, record) if one not in account.damaged]
    write_report(store.suite(name), name, command)
    facts = {
        "trials_launched": account.launched,
        "peak_memory_bytes": account.peak_memory_bytes,
        "seconds_launch_median": account.seconds_launch,
    }
    mirror(
        store,
        name,
        {"id": secrets.token_hex(8), "command": command, "begun": begun, **facts},
    )
    return time.perf_counter() - start
