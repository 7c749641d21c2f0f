"""Run a suite: plan, launch, record, report."""

from __future__ import annotations

import secrets
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.launch import Interrupted, Job, Lost, Outcome, launch
from harness.launch.jobs import Jobs
from harness.launch.peak_memory import PeakMemory
from harness.launch.plan_jobs import SuiteJobs
from harness.launch.preflight import check_launch, default_cpus
from harness.launch.progress import Several, make_progress
from harness.launch.resources import Resources
from harness.launch.watch.journal import noted
from harness.launch.watch.metrics import check_metrics, metrics_address, served
from harness.planning.plan import Plan, Planned
from harness.planning.plan_file import can_show, hidden_trials, write_plan
from harness.records.index import Results
from harness.records.states import Damaged
from harness.records.store import Store
from harness.records.suite_records import PAGE, SuiteRecords
from harness.suite import Suite
from harness.suite.explain import renamed
from harness.tools.inputs import shown
from harness.tools.redact import redacted


@dataclass(frozen=True)
class RunOptions:
    """How to run a suite. None of these options changes its results."""

    address: str = "local"
    only: str | None = None
    retry: Sequence[str] = ()
    cpus: int = field(default_factory=default_cpus)
    gpus: float | Literal["auto"] = 0.0
    concurrency: int | None = None
    fork: bool = True  # begin a trial from the state of another where both agree until then
    name: str | None = None  # record it under this name instead of its own
    quiet: bool = False  # no progress
    memory: int = 0  # bytes that Ray sets aside for one trial
    accelerator: str | None = None  # the type of its GPUs
    metrics: str | None = None  # PORT or HOST:PORT for Prometheus

    def __post_init__(self) -> None:
        for status in self.retry:
            if status not in ("failed", "diverged"):
                raise ValueError(f"--retry takes failed or diverged, not {shown(status)}")
        if self.metrics is not None:
            metrics_address(self.metrics)
        _ = self.resources  # refuses what no trial can ask for

    @property
    def resources(self) -> Resources:
        """What each trial asks for."""
        return Resources(self.cpus, self.gpus, self.memory, self.accelerator)


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
    launch_id: str = field(default_factory=lambda: secrets.token_hex(8))
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
    check_metrics(options.metrics)
    plan = Plan(renamed(suite, options.name), store, of=suite.name)
    if store.kind_of(plan.suite.name) == "study":
        raise ValueError(f"{store.address} holds a study {plan.suite.name}: give the run a --name")
    plan.forget(options.retry, plan.select(options.only))
    needs = options.resources.at(options.address)
    jobs = SuiteJobs(plan, command, only=options.only, fork=options.fork, resources=needs)
    summary = RunSummary(store.suite(plan.suite.name))
    before = hidden_trials(plan)
    begun, start = time.time(), time.perf_counter()
    if jobs.pending():
        # Only missing trials: those that have ended may have needed a larger machine.
        todo = (row for row in jobs.rows if plan.state(row) in ("missing", "waiting"))
        trials = [row.spec or row.role.trial for row in todo]
        gpus = max(needs.shape_of(trial).gpus for trial in trials)
        check_launch(trials, options.address, options.cpus, gpus)
        launch_and_summarise(
            jobs, store, options, summary, command, jobs.begin, _before(jobs.rows, plan)
        )
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
    command: str,
    begin: Callable[[], None] = lambda: None,
    before: int = 0,
) -> None:
    """Launch jobs and record the cost in the summary, interrupted or not.

    `before` is how many of the trials had ended already, for those who watch.
    """
    with PeakMemory() as memory:
        try:
            ended = _launch(jobs, store, options, summary, command, begin, before)
        except Interrupted as interrupted:
            ended = interrupted.outcomes
            summary.lost = isinstance(interrupted, Lost)
            summary.interrupted = not summary.lost
    summary.elsewhere = sum(outcome.elsewhere for _, outcome in ended)
    ended = [(job, outcome) for job, outcome in ended if not outcome.elsewhere]
    found = Results(store)
    results = {job.trial_id: _result(found, job.trial_id) for job, _ in ended}
    records = {trial_id: one["record"] for trial_id, one in results.items() if one is not None}
    summary.launched = len(ended)
    summary.flops = sum(record["train_flops"] for record in records.values())
    summary.flops_spent = sum(record["flops_spent"] for record in records.values())
    summary.seconds_launch = _launch_seconds(records, ended)
    if options.address == "local":
        summary.peak_memory_bytes = memory.bytes


def _launch(
    jobs: Jobs,
    store: Store,
    options: RunOptions,
    summary: RunSummary,
    command: str,
    begin: Callable[[], None],
    before: int,
) -> list[tuple[Job, Outcome]]:
    """As `launch`, with a note of its state in the store while it lasts."""
    facts = {"launch": summary.launch_id, "command": command, "address": redacted(options.address)}
    with (
        served(options.metrics, summary.records.name) as metrics,
        noted(store, summary.records.name, before=before, **facts) as journal,
    ):

        def begin_noting() -> None:
            begin()
            journal.begin()

        shown = make_progress(None if options.quiet else sys.stderr)
        return launch(
            jobs,
            store.address,
            address=options.address,
            concurrency=options.concurrency,
            progress=Several(shown, journal, metrics),
            begin=begin_noting,
        )


def _before(rows: Sequence[Planned], plan: Plan) -> int:
    """How many trials of these rows have completed or diverged."""
    done = (row for row in rows if plan.state(row) in ("completed", "diverged"))
    return len({row.trial_id for row in done})


def _result(found: Results, trial_id: str) -> dict[str, Any] | None:
    """A trial's result; None if it has not ended or its record is damaged."""
    try:
        return found.result(trial_id)
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
    plan.look()
    store, name = plan.store, plan.suite.name
    if not can_show(plan, rows):
        return 0.0
    record = write_plan(plan, command)
    facts = {
        "trials_launched": summary.launched,
        "peak_memory_bytes": summary.peak_memory_bytes,
        "seconds_launch_median": summary.seconds_launch,
    }
    launched = {"id": summary.launch_id, "command": command, "begun": begun, **facts}
    published = publish(store, name, record, command, launched)
    summary.published = True
    summary.damaged += [one for one in published.damaged if one not in summary.damaged]
    summary.interrupted |= published.interrupted
    return time.perf_counter() - start
