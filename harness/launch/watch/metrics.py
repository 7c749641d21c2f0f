"""A launch's state for Prometheus, on a port of the driver: off by default, on loopback if on."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from harness.tools.inputs import shown
from harness.tools.listening import check_listening, exposed
from harness.tools.notes import say

from ..progress.sinks import Silence
from ..progress.snapshot import Snapshot

if TYPE_CHECKING:
    from prometheus_client.core import Metric

Values = float | tuple[str, dict[str, int]]  # one, or by what label, and each

LOOPBACK = "127.0.0.1"
STATES = ("running", "starting", "pending", "waiting", "elsewhere")
STATUSES = ("completed", "diverged", "failed", "faulted")
EXPOSES = "read this launch's metrics: how many trials are in which state, and its suite's name"


def metrics_address(text: str) -> tuple[str, int]:
    """The host and port of `PORT` or `HOST:PORT`; loopback without a host. Raises ValueError."""
    found = re.fullmatch(r"(?:(?P<host>[^:\[\]]+|\[[0-9a-fA-F:]+\]):)?(?P<port>[0-9]{1,5})", text)
    if found is None or not 1 <= int(found["port"]) <= 65535:
        raise ValueError(
            f"--metrics takes PORT or HOST:PORT, a port from 1 to 65535, not {shown(text)}"
        )
    return (found["host"] or LOOPBACK).strip("[]"), int(found["port"])


def check_metrics(address: str | None) -> tuple[str, int] | None:
    """The host and port to listen at, if any. Raises ValueError if nobody can listen there."""
    if address is None:
        return None
    host, port = metrics_address(address)
    check_listening(host, port)
    return host, port


class Metrics(Silence):
    """A progress sink that keeps the newest snapshot, and gives it as metrics when asked."""

    def __init__(self, suite: str) -> None:
        self.suite = suite
        self.newest: Snapshot | None = None

    def update(self, snapshot: Snapshot) -> None:
        """Keep it for whoever asks."""
        self.newest = snapshot

    def collect(self) -> Iterator[Metric]:
        """The metrics, as a collector of prometheus_client gives them; none before the launch."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        now = self.newest
        if now is None:
            return
        ended = {status: now.counts[status] for status in STATUSES}
        gauges: list[tuple[str, str, Values]] = [
            ("harness_trials", "Trials that have not ended, by state.", ("state", _states(now))),
            ("harness_steps_per_second", "Training steps of all running trials.", _rate(now)),
            ("harness_quarantined_nodes", "Nodes without new trials.", len(now.quarantined)),
            ("harness_launch_seconds", "Time since the launch began.", now.elapsed),
        ]
        if now.eta is not None:
            gauges.append(("harness_left_seconds", "Estimated time left.", now.eta))
        counters: list[tuple[str, str, Values]] = [
            ("harness_trials_ended", "Trials that have ended, by status.", ("status", ended)),
            ("harness_retries", "Attempts after a machine's fault.", now.retries),
            ("harness_lease_takeovers", "Trials taken over from others.", now.takeovers),
            ("harness_cpu_seconds", "CPU-seconds that trials have held.", now.cpu_seconds),
            ("harness_gpu_seconds", "GPU-seconds that trials have held.", now.gpu_seconds),
        ]
        for kind, some in ((GaugeMetricFamily, gauges), (CounterMetricFamily, counters)):
            for name, said, values in some:
                by, known = values if isinstance(values, tuple) else ("", {"": values})
                found = kind(name, said, labels=["suite", by] if by else ["suite"])
                for key, value in known.items():
                    found.add_metric([self.suite, key] if by else [self.suite], value)
                yield found


@contextlib.contextmanager
def served(address: str | None, suite: str) -> Iterator[Metrics]:
    """Metrics at `http://HOST:PORT/metrics` while the context lasts; without an address, nowhere.

    A line warns if others can reach them.

    Raises:
        ValueError: one line: no address, or nobody can listen there.
    """
    metrics = Metrics(suite)
    place = check_metrics(address)
    if place is None:
        yield metrics
        return
    host, port = place
    if (warning := exposed(host, port, EXPOSES)) is not None:
        say(f"warning: {warning}")
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()  # apart from Ray's and from what this process counts of itself
    registry.register(metrics)
    server, thread = start_http_server(port, host, registry)
    try:
        yield metrics
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _rate(now: Snapshot) -> float:
    return sum(trial.rate or 0.0 for trial in now.running)


def _states(now: Snapshot) -> dict[str, int]:
    counts = Counter(trial.state for trial in now.running)
    counts.update(waiting=now.waiting, elsewhere=now.elsewhere)
    return {state: counts[state] for state in STATES}


__all__ = ["Metrics", "check_metrics", "metrics_address", "served"]
