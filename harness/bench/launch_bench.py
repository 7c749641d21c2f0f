"""`harness bench launch`: what a trial costs beyond its own seconds, on warm workers."""

from __future__ import annotations

import contextlib
import io
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.launch.run_suite import RunOptions, RunSummary, run_suite
from harness.records.store import Store
from harness.suite import Comparison, FullSpec, LRUSpec, Suite, TaskSpec, TrainingSpec
from harness.suite.suite import MOST_SEEDS
from harness.training.host.machine import pick_device, thread_count

from .bench_machine import describe, machine_lines
from .text_table import number, paragraph, table

TRIALS, QUICK_TRIALS = 200, 40
FEWEST = 2  # trials needed for a rate
STEPS = 20


def count(trials: int | None, quick: bool) -> int:
    """How many trials to run.

    Raises:
        ValueError: fewer than two.
    """
    given = trials if trials is not None else QUICK_TRIALS if quick else TRIALS
    if given < FEWEST:
        raise ValueError(f"trials must be at least {FEWEST}, not {given}")
    if given > MOST_SEEDS:
        raise ValueError(f"trials must be at most {MOST_SEEDS}, not {given}")
    return given


def tiny(trials: int) -> Suite:
    """A suite of `trials` trials of `digits`, each taking milliseconds."""
    comparison = Comparison(
        task=TaskSpec(name="digits"),
        model=LRUSpec(blocks=1, width=4, state_dim=4),
        training=TrainingSpec(steps=STEPS, batch_size=20, evaluate_every=STEPS),
        arms={"full": FullSpec()},
        seeds=tuple(range(trials)),
    )
    return Suite(name="bench_launch", comparisons=(comparison,))


def measure(trials: int, concurrency: int | None) -> dict[str, Any]:
    """Run the trials through the whole path into a temporary store; JSON.

    Raises:
        RuntimeError: a trial did not complete, so the numbers would mean nothing.
    """
    machine = describe(pick_device(), thread_count())
    with tempfile.TemporaryDirectory(prefix="harness-bench-") as folder:
        store = Store.open(Path(folder) / "store")
        with quiet():
            summary = run_suite(
                tiny(trials), store, "harness bench launch", RunOptions(concurrency=concurrency)
            )
        if summary.interrupted:
            raise KeyboardInterrupt
        if summary.unfinished:
            raise RuntimeError(f"{len(summary.unfinished)} unfinished: {summary.unfinished[0]}")
        own, ends = read_trials(store)
    result = {"bench": "launch", "machine": machine, "concurrency": concurrency}
    return {**result, **summarise(summary, own, ends)}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress the lines per trial in a log; a terminal keeps its live table."""
    if sys.stderr.isatty():
        yield
        return
    with contextlib.redirect_stderr(io.StringIO()):
        yield


def read_trials(store: Store) -> tuple[list[float], list[float]]:
    """Each ended trial's own seconds, and when its result was written (seconds since the epoch)."""
    folders = [store.trial(trial_id) for trial_id in store.ended_trials()]
    own = [(folder.result() or {})["record"]["seconds_total"] for folder in folders]
    return own, [folder.ended_at() for folder in folders]


def summarise(summary: RunSummary, own: list[float], ends: list[float]) -> dict[str, Any]:
    """Seconds a trial and trials a second.

    Args:
        own: each trial's own seconds. ends: when each ended. The warm rate counts from the first
            end, since Ray and the workers start before it.
    """
    report, launch = summary.seconds_report / summary.launched, summary.seconds_launch
    return {
        "trials": summary.launched,
        "seconds": summary.seconds,
        "launch_seconds_per_trial": launch,
        "report_seconds": summary.seconds_report,
        "report_seconds_per_trial": report,
        "overhead_seconds_per_trial": summary.overhead,
        "own_seconds_per_trial": statistics.median(own),
        "warm_trials_per_second": (len(ends) - 1) / (max(ends) - min(ends)),
        "trials_per_second": summary.launched / summary.seconds,
        "peak_memory_bytes": summary.peak_memory_bytes,
    }


def lines(result: dict[str, Any]) -> list[str]:
    """The result as text."""
    ms = {name: number(1e3 * value) for name, value in result.items() if "per_trial" in name}
    rows = [
        ("overhead of a trial, ms", ms["overhead_seconds_per_trial"]),
        ("  launch and record (median)", ms["launch_seconds_per_trial"]),
        ("  tables, page and mirror (mean)", ms["report_seconds_per_trial"]),
        ("its own seconds, ms (median)", ms["own_seconds_per_trial"]),
        ("trials/s, workers warm", number(result["warm_trials_per_second"])),
        ("trials/s, start of Ray and report included", number(result["trials_per_second"])),
    ]
    trials, seconds = result["trials"], number(result["seconds"])
    return [
        *machine_lines(result["machine"]),
        "",
        *table((f"{trials} trials of digits in {seconds} s", ""), rows),
        "",
        *paragraph(
            f"A trial trains {STEPS} steps of one block, H 4, N 4. Launch: from handing it to a "
            "worker to seeing its end, beyond its own seconds. Tables, page and mirror are made "
            "once, so their share falls with the number of trials."
        ),
    ]
