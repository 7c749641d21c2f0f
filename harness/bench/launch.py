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

from harness.launch.run_suite import Account, Wishes, run_suite
from harness.records.store import Store
from harness.suite import Comparison, FullSpec, LRUSpec, Suite, TaskSpec, TrainingSpec
from harness.suite.suite import MOST_SEEDS
from harness.training.host.machine import pick_device, thread_count

from .machine import describe, machine_lines
from .text import number, paragraph, table

TRIALS, QUICK_TRIALS = 200, 40
FEWEST = 2  # trials that have a rate
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
    """So many trials of `digits`, each a matter of milliseconds."""
    comparison = Comparison(
        task=TaskSpec(name="digits"),
        model=LRUSpec(blocks=1, width=4, state_dim=4),
        training=TrainingSpec(steps=STEPS, batch_size=20, evaluate_every=STEPS),
        arms={"full": FullSpec()},
        seeds=tuple(range(trials)),
    )
    return Suite(name="bench_launch", comparisons=(comparison,))


def measure(trials: int, concurrency: int | None) -> dict[str, Any]:
    """Run the trials through the whole path into a store that is thrown away; JSON.

    Raises:
        RuntimeError: a trial did not complete, so that the numbers mean nothing.
    """
    machine = describe(pick_device(), thread_count())
    with tempfile.TemporaryDirectory(prefix="harness-bench-") as folder:
        store = Store.open(Path(folder) / "store")
        with quiet():
            account = run_suite(
                tiny(trials), store, "harness bench launch", Wishes(concurrency=concurrency)
            )
        if account.interrupted:
            raise KeyboardInterrupt
        if account.unfinished:
            raise RuntimeError(f"{len(account.unfinished)} unfinished: {account.unfinished[0]}")
        own, ends = read_trials(store)
    result = {"bench": "launch", "machine": machine, "concurrency": concurrency}
    return {**result, **summarise(account, own, ends)}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No line a trial in a log; on a terminal the live table stays."""
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


def summarise(account: Account, own: list[float], ends: list[float]) -> dict[str, Any]:
    """Seconds a trial and trials a second.

    Args:
        own: each trial's own seconds. ends: when each ended; the first end, before which Ray and
            the workers start, opens the warm rate's interval, and does not count in it.
    """
    report, launch = account.seconds_report / account.launched, account.seconds_launch
    return {
        "trials": account.launched,
        "seconds": account.seconds,
        "launch_seconds_per_trial": launch,
        "report_seconds": account.seconds_report,
        "report_seconds_per_trial": report,
        "overhead_seconds_per_trial": account.overhead,
        "own_seconds_per_trial": statistics.median(own),
        "warm_trials_per_second": (len(ends) - 1) / (max(ends) - min(ends)),
        "trials_per_second": account.launched / account.seconds,
        "peak_memory_bytes": account.peak_memory_bytes,
    }


def lines(result: dict[str, Any]) -> list[str]:
    """For a person."""
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
