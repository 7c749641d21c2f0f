"""Faults by chance: of any kind, on any host, at any time, up to three in one run.

`-m soak` runs all seeds, which takes an hour or two; none is among the tests otherwise.
"""

import contextlib
import random
import signal
import time

import psutil
import pytest

from .cluster import RayCluster, Run, is_plain
from .outcome import PACE, SUITE, assert_idle, assert_whole

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]
MOST_RUNS = 12


class Chance:
    """A run that is started again as a person would, until it is whole."""

    def __init__(self, cluster: RayCluster, seed: int) -> None:
        self.cluster, self.random = cluster, random.Random(seed)
        self.runs: list[Run] = []
        self.done: list[str] = []
        self.start()

    @property
    def run(self) -> Run:
        return self.runs[-1]

    def start(self) -> None:
        before = self.runs[-1].results if self.runs else set()
        name = f"run{len(self.runs)}"
        self.runs.append(Run(self.cluster, SUITE, name=name, HARNESS_CHECKPOINT_SECONDS="1"))
        self.run.results = before

    def a_process(self, name: str) -> None:
        """SIGKILL to a process of a host's Ray, if it has one by that name just now."""
        hosts = [self.cluster.head] if name == "gcs_server" else self.cluster.workers
        host = self.random.choice(hosts)
        for process in host.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                if name in (process.name(), process.name().partition(".")[0]):
                    process.kill()

    def raylet(self) -> None:
        self.a_process("raylet")

    def head(self) -> None:
        self.a_process("gcs_server")
        self.run.code(120)  # it says so, or had ended before
        self.cluster.restart_head()

    def worker(self) -> None:
        self.a_process("ray::TrialWorker")

    def power(self) -> None:
        """A host is switched off, and another one takes its place."""
        host = self.random.choice(self.cluster.workers)
        host.power_off()
        self.cluster.workers.remove(host)
        self.cluster.workers.append(self.cluster.add_worker())

    def cable(self) -> None:
        host = self.random.choice(self.cluster.workers)
        host.cut()
        self.run.watch(self.random.uniform(1, 45))
        host.heal()

    def pause(self) -> None:
        host = self.random.choice(self.cluster.workers)
        host.pause()
        self.run.watch(self.random.uniform(1, 60))
        host.resume()

    def driver(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            self.run.process.kill()
        self.run.outer.wait()
        self.start()

    def stopped_driver(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            self.run.process.send_signal(signal.SIGTERM)
        self.run.code(120)
        self.start()

    def second_launch(self) -> None:
        """Another driver joins in, and the first is killed."""
        first = self.run
        self.start()
        self.run.watch(self.random.uniform(0, 10))
        with contextlib.suppress(psutil.NoSuchProcess):
            first.process.kill()
        first.outer.wait()

    FAULTS = raylet, head, worker, power, cable, pause, driver, stopped_driver, second_launch

    def strike(self) -> None:
        """One fault, after a while."""
        self.run.watch(self.random.uniform(0, 25))
        fault = self.random.choice(self.FAULTS)
        self.done.append(f"{fault.__name__} after {time.monotonic() - self.runs[0].begun:.1f} s")
        fault(self)

    def to_the_end(self) -> None:
        """Start it again until it says that all is done."""
        while self.run.code() != 0:
            assert len(self.runs) < MOST_RUNS, self.cluster.said()
            time.sleep(2)  # nodes may still be on their way back
            self.start()


@pytest.mark.parametrize("seed", range(48))
def test_what_happens_leaves_no_trace(hosts, undisturbed, seed):
    chance = Chance(RayCluster(hosts, 2, **{PACE: "0.2"}), seed)
    for _ in range(chance.random.randint(1, 3)):
        chance.strike()
    chance.to_the_end()
    print("; ".join(chance.done), f"; {len(chance.runs)} runs")
    assert_whole(chance.run, undisturbed)
    for run in chance.runs:
        assert is_plain(run.said), run.said
    assert_idle(chance.run, 180)
