"""`harness bench cluster`: trials that train nothing, on nodes of this machine, one of which is
killed half-way; then tables, page, mirror, plan and status of so many trials."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil

from harness.launch.driver import launch
from harness.launch.jobs import Interrupted, Job, Outcome
from harness.launch.local.nodes import local_nodes
from harness.launch.plan_jobs import SuiteJobs
from harness.launch.pool import Pool
from harness.launch.progress import Several, Snapshot
from harness.launch.progress.sinks import Silence
from harness.launch.watch.journal import noted
from harness.launch.watch.status import Watch
from harness.planning.estimate import plan_summary
from harness.planning.plan import Plan
from harness.planning.plan_file import write_plan
from harness.records.collect import collect
from harness.records.mirror.mirror import update
from harness.records.store import Store
from harness.report import write_report
from harness.suite import Comparison, FullSpec, LRUSpec, Suite, TaskSpec, TrainingSpec
from harness.training.host.machine import pick_device, thread_count

from .bench_machine import describe, machine_lines
from .empty_worker import EmptyWorker
from .text_table import number, paragraph, table

TRIALS, QUICK_TRIALS = 10_000, 300
NODES = 3
COMPARISONS = 10
COMMAND = "harness bench cluster"


def suite_of(trials: int) -> Suite:
    """A suite of about so many tiny trials, in ten comparisons."""
    comparisons = tuple(
        Comparison(
            name=f"c{i}",
            task=TaskSpec(name="digits"),
            model=LRUSpec(blocks=1, width=4, state_dim=4),
            training=TrainingSpec(steps=20 + i, batch_size=20, evaluate_every=20 + i),
            arms={"full": FullSpec()},
            seeds=tuple(range(-(-trials // COMPARISONS))),
        )
        for i in range(COMPARISONS)
    )
    return Suite(name="bench_cluster", comparisons=comparisons)


def measure(trials: int, nodes: int, address: str | None = None) -> dict[str, Any]:
    """Run the trials over the nodes into a store at `address`, by default a temporary one; JSON.

    Raises:
        ValueError: the store holds something.
        RuntimeError: a trial did not end, so the numbers would mean nothing.
    """
    machine = describe(pick_device(), thread_count())
    with tempfile.TemporaryDirectory(prefix="harness-bench-") as folder:
        store = Store.open(address or f"{folder}/store")
        if store.has_records():
            raise ValueError(f"the store {store.address} is not empty: give --store another")
        suite = suite_of(trials)
        seconds: dict[str, float] = {}
        with timed(seconds, "plan_new"):
            plan = Plan(suite, store)
        with timed(seconds, "launch"), local_nodes(nodes) as cluster:
            run = _Run(cluster, len(plan.rows))
            try:
                ended = run.through(plan)
            except Interrupted:
                raise KeyboardInterrupt from None
        if any(outcome.status != "completed" for _, outcome in ended):
            raise RuntimeError(f"not all of {len(plan.rows)} trials completed")
        _look_back(suite, store, seconds)
    return {
        "bench": "cluster",
        "machine": machine,
        "nodes": nodes,
        "trials": len(ended),
        "store": "s3" if not store.is_folder else "folder",
        **{f"{name}_seconds": value for name, value in seconds.items()},
        **run.found(ended),
    }


def _look_back(suite: Suite, store: Store, seconds: dict[str, float]) -> None:
    """Time what reads or shows all trials."""
    with timed(seconds, "plan"):
        plan = Plan(suite, store)
        plan_summary(plan)
    with timed(seconds, "status"):
        Watch(store).look(None)
    record = write_plan(plan, COMMAND)
    with timed(seconds, "collect"):
        collect(store, suite.name, record)
    with timed(seconds, "report"):
        write_report(store.suite(suite.name), COMMAND)
    with timed(seconds, "mirror"):
        update(store, suite.name, {"id": "bench", "command": COMMAND, "begun": time.time()})
    with timed(seconds, "collect_again"):
        collect(store, suite.name, record)
    with timed(seconds, "mirror_again"):
        update(store, suite.name)


@contextlib.contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Note how long the context lasts."""
    start = time.monotonic()
    yield
    seconds[name] = time.monotonic() - start


class _EmptyPool(Pool):
    worker = EmptyWorker


class _Run(Silence):
    """A launch, watched: a node is killed once half of the trials have ended."""

    def __init__(self, cluster: Any, trials: int) -> None:
        self.cluster, self.trials = cluster, trials
        self.process = psutil.Process()
        self.begun_at = self.half_at = self.over_at = 0.0
        self.first = 0
        self.memory: list[int] = []
        self.killer: threading.Thread | None = None

    def through(self, plan: Plan) -> list[tuple[Job, Outcome]]:
        """Run the plan's trials."""
        jobs = SuiteJobs(plan, COMMAND)
        facts = {"launch": "bench", "command": COMMAND, "address": self.cluster.address}
        with noted(plan.store, plan.suite.name, **facts) as journal:

            def begin() -> None:
                jobs.begin()
                journal.begin()

            ended = launch(
                jobs,
                plan.store.address,
                address=self.cluster.address,
                progress=Several(self, journal),
                begin=begin,
                pool_type=_EmptyPool,
            )
        self.over_at = time.monotonic()
        if self.killer is not None:
            self.killer.join()
        return ended

    def update(self, snapshot: Snapshot) -> None:
        """Note the memory; kill a node once."""
        done = snapshot.done
        if not done:
            return
        if not self.begun_at:
            self.begun_at = time.monotonic()
            self.first = done
        self.memory.append(self.process.memory_info().rss)
        if 2 * done >= self.trials and self.killer is None and len(self.cluster.worker_nodes) > 1:
            self.half_at = time.monotonic()
            self.killer = threading.Thread(target=self._kill)
            self.killer.start()

    def _kill(self) -> None:
        self.cluster.remove_node(next(iter(self.cluster.worker_nodes)), allow_graceful=False)

    def found(self, ended: list[tuple[Job, Outcome]]) -> dict[str, Any]:
        """What was measured."""
        said = [float(o.message) for _, o in ended if o.message not in (None, "None")]
        return {
            "trials_per_second": (len(ended) - self.first) / (self.over_at - self.begun_at),
            "killed_after_seconds": self.half_at - self.begun_at if self.half_at else None,
            "idle_seconds_median": statistics.median(said),
            "idle_seconds_p95": statistics.quantiles(said, n=20)[-1],
            "driver_bytes_first": self.memory[0],
            "driver_bytes_grown": max(self.memory) - self.memory[0],
        }


def lines(result: dict[str, Any]) -> list[str]:
    """The result as text."""
    seconds = {k: number(v) for k, v in result.items() if k.endswith("_seconds") and v is not None}
    grown = number(result["driver_bytes_grown"] / 2**20)
    rows = [
        ("trials/s, from the first end to the last", number(result["trials_per_second"])),
        ("a node was killed after, s", seconds.get("killed_after_seconds", "-")),
        ("idle between two trials, ms, median", number(1e3 * result["idle_seconds_median"])),
        ("idle between two trials, ms, 95 %", number(1e3 * result["idle_seconds_p95"])),
        ("the driver's memory grew by, MiB", grown),
        ("plan before, s", seconds["plan_new_seconds"]),
        ("plan after, s", seconds["plan_seconds"]),
        ("status, s", seconds["status_seconds"]),
        ("collect, s", seconds["collect_seconds"]),
        ("page and tables, s", seconds["report_seconds"]),
        ("mirror, s", seconds["mirror_seconds"]),
        ("collect again, s", seconds["collect_again_seconds"]),
        ("mirror again, s", seconds["mirror_again_seconds"]),
    ]
    said = f"{result['trials']} trials, {result['nodes']} nodes, store: {result['store']}"
    return [
        *machine_lines(result["machine"]),
        "",
        *table((said, ""), rows),
        "",
        *paragraph(
            "The real launch on a Ray of this machine with one CPU a node; all share its cores. A "
            "trial is claimed, recorded and ended as any other, but trains nothing: its records "
            "are those of the first. Idle: from a trial's end to the beginning of the worker's "
            "next, both claims included."
        ),
    ]
