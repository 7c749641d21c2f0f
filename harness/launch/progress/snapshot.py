"""The state of a launch: what runs, what has ended, what waits."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ..jobs import Outcome


@dataclass(frozen=True)
class Running:
    """A running trial, as last reported. `metric` is the newest validation value."""

    trial_id: str
    label: str
    seed: int
    seconds: float
    attempt: int = 1
    step: int | None = None
    steps: int | None = None
    metric: float | None = None
    state_dims: tuple[int, ...] = ()
    left: float | None = None
    has_worker: bool = True  # whether its process is there or being made
    node: str = ""  # its node's name; empty until that is known
    cpus: int = 1
    gpus: float = 0.0

    @property
    def state(self) -> str:
        """`pending` while Ray has no place for its process, `starting` while that is being made and
        until the first step, then `running`."""
        if not self.has_worker:
            return "pending"
        return "running" if self.step is not None and self.steps else "starting"

    @property
    def rate(self) -> float | None:
        """Steps a second, if known."""
        return (self.steps - (self.step or 0)) / self.left if self.steps and self.left else None

    def describe(self) -> str:
        """Step, metric and state dimensions as text."""
        if self.state != "running":
            return self.state
        parts = [f"step {self.step}/{self.steps}"]
        if self.metric is not None:
            parts.append(f"metric {self.metric:.4g}")
        parts.append(f"states {list(self.state_dims)}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Ended:
    """A trial that has ended."""

    trial_id: str
    label: str
    seed: int
    outcome: Outcome


@dataclass(frozen=True)
class Snapshot:
    """The state of a launch. `ended` holds every ended trial, oldest first; `eta` is in seconds;
    `note` is the jobs' line on overall progress; `reason` says why a trial that could run waits;
    `elsewhere` counts the trials that another launch runs; the rest is as in `Tally`."""

    ended: tuple[Ended, ...]
    running: tuple[Running, ...]
    waiting: int
    elapsed: float
    eta: float | None
    note: str = ""
    reason: str = ""
    elsewhere: int = 0
    retries: int = 0
    takeovers: int = 0
    quarantined: tuple[str, ...] = ()
    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0
    counts: Counter[str] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", Counter(e.outcome.status for e in self.ended))

    @property
    def done(self) -> int:
        """Trials that completed or diverged."""
        return self.counts["completed"] + self.counts["diverged"]

    @property
    def failed(self) -> int:
        """Trials that failed, and those whose machine failed."""
        return self.counts["failed"] + self.counts["faulted"]

    @property
    def waits(self) -> str:
        """A line on what is waited for, if anything."""
        if self.reason:
            return f"waiting: {self.reason}"
        if self.elsewhere and not self.running:
            trials = "1 trial" if self.elsewhere == 1 else f"{self.elsewhere} trials"
            return f"waiting for {trials} that another launch runs"
        return ""

    def summary(self) -> str:
        """Counts by state, and the time left."""
        now = Counter(trial.state for trial in self.running)
        states = {"completed": self.counts["completed"], "running": now["running"]}
        states |= {name: now[name] for name in ("starting", "pending") if now[name]}
        states["waiting"] = self.waiting
        if self.elsewhere:
            states["run by another launch"] = self.elsewhere
        for name in ("diverged", "failed", "faulted"):
            if self.counts[name]:
                states[name] = self.counts[name]
        text = ", ".join(f"{count} {name}" for name, count in states.items())
        return text + (f"; about {duration(self.eta)} left" if self.eta is not None else "")


def duration(seconds: float) -> str:
    """Seconds as text, in a suitable unit."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"


__all__ = ["Ended", "Running", "Snapshot", "duration"]
