"""Run a suite: plan, launch, record, report."""

from __future__ import annotations

import secrets
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.launch import Interrupted, Job, Lost, Outcome, launch
from harness.launch.jobs import Jobs
from harness.launch.peak_memory import PeakMemory
from harness.launch.plan_jobs import SuiteJobs
from harness.launch.preflight import check_launch, check_resources, default_cpus
from harness.launch.progress import make_progress
from harness.planning.plan import Plan, Planned
from harness.planning.plan_file import can_show, hidden_trials, write_plan
from harness.records.states import Damaged
from harness.records.store import Store
from harness.records.suite_records import PAGE, SuiteRecords
from harness.suite import Suite
from harness.suite.explain import renamed
from harness.tools.inputs import shown


@dataclass(frozen=True)
class RunOptions:
    """How to run a suite. None of these options changes its results."""

    address: str = "local"
    only: str | None = None
    retry: Sequence[str] = ()
    cpus: int = field(default_factory=default_cpus)
    gpus: float = 0.0
    concurrency: int | None = None
    fork: bool = True  # begin a trial from the state of another where both agree until then
    name: str | None = None  # record it under this name instead of its own
    quiet: bool = False  # no progress

    def __post_init__(self) -> None:
        for status in self.retry:
            if status not in ("failed", "diverged"):
                raise ValueError(f"--retry takes failed or diverged, not {shown(status)}")
        check_resources(self.cpus, self.gpus)


@dataclass
class RunSummary:
    """What a run did, and what it cost."""

    records: SuiteRecords  # of the suite or study
    published: bool = False  # whether tables and page show this run
    seconds: float = 0.0
    launched: int = 0
    elsewhere: int = 0  # trials that another launch on the same store ran meanwhile
    seconds_launch: float | None = None  # per trial, beyond its own seconds; the median
    seconds_report: float = 0.0
    peak_memory_bytes: int | None = None  # all processes; None on a cluster
    flops: float = 0.0  # training FLOPs of the ended trials, each as if run alone
    flops_spent: float = 0.0  # FLOPs actually spent: fewer where trials forked
    unfinished: list[str] = field(default_factory=list)
    hidden: str | None = None  # a line on what the tables showed before and no longer show
    damaged: list[str] = field(default_factory=list)  # a line for each damaged record
    interrupted: bool = False
    lost: bool = False  # the head of the cluster was lost, and the run ended there

    @property
    def page(self) -> str:
        """Path of the page."""
        return self.records.page

    @property
    def overhead(self) -> float | None:
        """Seconds per trial spent on launching, recording, reporting and mirroring."""
        if self.seconds_launch is None:
            return None
        return self.seconds_launch + self.seconds_report / self.launched

    def lines(self) -> list[str]:
        """The summary as text."""
        others = f"another launch ran {self.elsewhere} of the trials"
        if not self.launched and (self.interrupted or self.lost):
            return [
                f"{'interrupted' if self.interrupted else 'ended'} before a trial had ended",
                *self._older(),
            ]
        if not self.launched:
            took = f"tables and page took {self.seconds_report:.1f} s"
            missing = others if self.elsewhere else "nothing was missing"
            return [f"{missing}; {took}", *self._older()]
        said = f"{self.launched} trials in {self.seconds:.0f} s"
        if self.overhead is not None:
            said += f"; {self.overhead:.2f} s of overhead a trial (launch, record, mirror)"
        if self.peak_memory_bytes:
            said += f"; peak memory of all processes {self.peak_memory_bytes / 2**30:.2f} GiB"
        if self.flops_spent < self.flops:
            said += f"; forks saved {1 - self.flops_spent / self.flops:.0%} of the training FLOPs"
        return [said, *([others] if self.elsewhere else []), *self._older()]

    def _older(self) -> list[str]:
        """Whether tables and page changed, and what they no longer show."""
        if self.hidden is not None:
            return [self.hidden]
        if self.published or not self.records.has(PAGE):
            return []
        return [f"{self.page} and its tables show what they showed before this run"]


def run_suite(
    suite: Suite, store: Store, command: str, options: RunOptions | None = None
) -> RunSummary:
    """Launch the missing trials, then collect, report and mirror.

    An interrupted run is also collected and reported, and its summary says so.

    Raises:
        ValueError: bad input, before anything starts or is written.
    """
    options = options or RunOptions()
    plan = Plan(renamed(suite, options.name), store, of=suite.name)
    if store.kind_of(plan.suite.name) == "study":
        raise ValueError(f"{store.root} holds a study {plan.suite.name}: give the run a --name")
    plan.forget(options.retry, plan.select(options.only))
    jobs = SuiteJobs(
        plan,
        command,
        only=options.only,
        cpus=options.cpus,
        gpus=options.gpus,
        fork=options.fork,
    )
    summary = RunSummary(store.suite(plan.suite.name))
    before = hidden_trials(plan)
    begun, start = time.time(), time.perf_counter()
    if jobs.pending():
        # Only missing trials: those that have ended may have needed a larger machine.
        todo = (row for row in jobs.rows if plan.state(row) in ("missing", "waiting"))
        trials = (row.spec or row.role.trial for row in todo)
        check_launch(trials, options.address, options.cpus, options.gpus)
        launch_and_summarise(jobs, store, options, summary, jobs.begin)
    summary.seconds_report = publish_run(plan, command, begun, summary, jobs.rows)
    summary.seconds = time.perf_counter() - start
    summary.hidden = before if summary.published else None
    summary.unfinished = jobs.unfinished()
    return summary


def launch_and_summarise(
    jobs: Jobs,
    store: Store,
    options: RunOptions,
    summary: RunSummary,
    begin: Callable[[], None] = lambda: None,
) -> None:
    """Launch jobs and record the cost in the summary, interrupted or not."""
    with PeakMemory() as memory:
        try:
            ended = launch(
                jobs,
                store.root,
                address=options.address,
                concurrency=options.concurrency,
                progress=make_progress(None if options.quiet else sys.stderr),
                begin=begin,
            )
        except Interrupted as interrupted:
            ended = interrupted.outcomes
            summary.lost = isinstance(interrupted, Lost)
            summary.interrupted = not summary.lost
    summary.elsewhere = sum(outcome.elsewhere for _, outcome in ended)
    ended = [(job, outcome) for job, outcome in ended if not outcome.elsewhere]
    results = {job.trial_id: _result(store, job.trial_id) for job, _ in ended}
    records = {trial_id: one["record"] for trial_id, one in results.items() if one is not None}
    summary.launched = len(ended)
    summary.flops = sum(record["train_flops"] for record in records.values())
    summary.flops_spent = sum(record["flops_spent"] for record in records.values())
    summary.seconds_launch = _launch_seconds(records, ended)
    if options.address == "local":
        summary.peak_memory_bytes = memory.bytes


def _result(store: Store, trial_id: str) -> dict[str, Any] | None:
    """A trial's result; None if it has not ended or its record is damaged."""
    try:
        return store.trial(trial_id).result()
    except Damaged:
        return None


def _launch_seconds(
    records: Mapping[str, Mapping[str, Any]], ended: Sequence[tuple[Job, Outcome]]
) -> float | None:
    """Median seconds from handing out a trial to seeing its end, less the trial's own seconds.

    The median, because the first trial of every worker waits for its process to start.
    """
    beyond = [
        outcome.seconds - records[job.trial_id]["seconds_spent"]
        for job, outcome in ended
        if job.trial_id in records and records[job.trial_id]["restarts"] == 0
    ]
    # Less than the trial's own seconds: another launch had ended it right before.
    beyond = [seconds for seconds in beyond if seconds >= 0.0]
    return statistics.median(beyond) if beyond else None


def publish_run(
    plan: Plan, command: str, begun: float, summary: RunSummary, rows: Sequence[Planned]
) -> float:
    """Write the suite's tables, report and mirror from the trials that have ended; returns the
    seconds it took.

    `rows` are the rows of this run. If the stored plan has more to show, nothing is written and
    `summary.published` stays as it is.
    """
    from harness.report.publish import publish

    start = time.perf_counter()
    plan.resolve()
    store, name = plan.store, plan.suite.name
    if not can_show(plan, rows):
        return 0.0
    record = write_plan(plan, command)
    facts = {
        "trials_launched": summary.launched,
        "peak_memory_bytes": summary.peak_memory_bytes,
        "seconds_launch_median": summary.seconds_launch,
    }
    launched = {"id": secrets.token_hex(8), "command": command, "begun": begun, **facts}
    published = publish(store, name, record, command, launched)
    summary.published = True
    summary.damaged += [one for one in published.damaged if one not in summary.damaged]
    summary.interrupted |= published.interrupted
    return time.perf_counter() - start
