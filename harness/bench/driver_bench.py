"""`harness bench driver`: whether one driver keeps thousands of workers busy, with a Ray that is
only pretended."""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
import time
from typing import Any

from harness.launch.jobs import Job, Outcome
from harness.launch.pool import Pool
from harness.launch.progress import Snapshot
from harness.launch.under_way import Launch
from harness.training.host.machine import pick_device, thread_count
from harness.training.host.stops import Signals

from .bench_machine import describe, machine_lines
from .simulated_ray import SimulatedRay
from .text_table import number, paragraph, table

WORKERS, QUICK_WORKERS = 10_000, 500
PER_NODE = 8
TRIAL_SECONDS = 60.0
ROUNDS = 2  # trials for each worker


def measure(workers: int, seconds: float, rounds: int) -> dict[str, Any]:
    """Run `rounds` trials a worker through the real launch; JSON.

    `idle_share` is the time that workers waited for their next trial, once all had one, over all
    their time.
    """
    machine = describe(pick_device(), thread_count())
    ray = SimulatedRay(workers, PER_NODE, seconds)
    jobs, sink = _Jobs(workers * rounds), _Sink()
    memory = _memory()
    with tempfile.TemporaryDirectory(prefix="harness-bench-") as folder:
        pool = _Timed(ray, workers, {}, ray.nodes)
        start, cpu = time.monotonic(), time.process_time()
        ended = Launch(pool, jobs, folder, 0, sink, Signals()).all(jobs.ready())
        total, cpu = time.monotonic() - start, time.process_time() - cpu
    assert len(ended) == workers * rounds
    return {
        "bench": "driver",
        "machine": machine,
        "workers": workers,
        "trials": len(ended),
        "seconds": total,
        "filled_after_seconds": pool.filled - start,
        "idle_seconds_median": statistics.median(pool.idle),
        "idle_seconds_most": max(pool.idle),
        "wanted_trials_per_second": workers / seconds,
        "loop_seconds_most": pool.longest,
        "driver_cpu_share": cpu / total,
        "calls_per_second": ray.calls / total,
        "memory_bytes": _memory() - memory,
    }


class _Timed(Pool):
    """A pool that notes how long workers wait for their next trial, and turns of the loop."""

    def __init__(self, ray: Any, workers: int, *rest: Any) -> None:
        super().__init__(ray, workers, *rest)
        self.workers, self.filled, self.longest = workers, 0.0, 0.0
        self.idle: list[float] = [0.0]
        self.free_at: dict[int, float] = {}
        self.turned = time.monotonic()

    def start(self, slot: Any, *rest: Any, **named: Any) -> None:
        super().start(slot, *rest, **named)
        now = time.monotonic()
        if id(slot) in self.free_at:
            self.idle.append(now - self.free_at.pop(id(slot)))
        elif len(self.slots) == self.workers and not self.filled:
            self.filled = now

    def wait(self, timeout: float) -> list[Any]:
        now = time.monotonic()
        self.longest = max(self.longest, now - self.turned)
        finished = super().wait(timeout)
        self.turned = time.monotonic()
        for slot in finished:
            self.free_at[id(slot)] = slot.run_ref.due
        return finished


class _Jobs:
    """So many independent trials."""

    def __init__(self, count: int) -> None:
        self.left = [Job(f"{i:016x}", {"seed": i}, f"simulated {i}") for i in range(count)]

    def ready(self) -> list[Job]:
        found, self.left = self.left, []
        return found

    def done(self, trial_id: str, outcome: Outcome) -> None:
        pass

    def pending(self) -> int:
        return len(self.left)

    def note(self) -> str:
        return ""


class _Sink:
    """Takes what a terminal would show."""

    def say(self, text: str) -> None:
        pass

    def update(self, snapshot: Snapshot) -> None:
        pass

    def close(self) -> None:
        pass


def _memory() -> int:
    """The peak of this process, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def lines(result: dict[str, Any]) -> list[str]:
    """The result as text."""
    rows = [
        ("seconds until every worker has a trial", number(result["filled_after_seconds"])),
        ("idle between two trials, ms, median", number(1e3 * result["idle_seconds_median"])),
        ("idle between two trials, ms, most", number(1e3 * result["idle_seconds_most"])),
        ("trials/s that keep all busy", number(result["wanted_trials_per_second"])),
        ("longest turn of the loop, ms", number(1e3 * result["loop_seconds_most"])),
        ("CPU of the driver, cores", number(result["driver_cpu_share"])),
        ("calls to workers/s", number(result["calls_per_second"])),
        ("memory, MiB", number(result["memory_bytes"] / 2**20)),
    ]
    said = (
        f"{result['trials']} trials on {result['workers']} workers, {number(result['seconds'])} s"
    )
    return [
        *machine_lines(result["machine"]),
        "",
        *table((said, ""), rows),
        "",
        *paragraph(
            "The real launch with a Ray that is only pretended: no worker, no network, no trial; a "
            "call costs what it costs here in Python, and of Ray nothing."
        ),
    ]
