"""What a launch's driver notes in the store every few seconds. Its size does not grow with the
number of trials that have ended."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict

from ..progress.snapshot import Ended, Running, Snapshot

FAILURES = 100  # that a note tells of, the newest

State = Literal["running", "done", "interrupted", "lost", "failed"]


class _Noted(BaseModel):
    # A newer harness may note more.
    model_config = ConfigDict(frozen=True, extra="ignore")


class RunningTrial(_Noted):
    """A trial that a worker has. `rate` is in steps a second, `seconds` and `left` in seconds."""

    trial_id: str
    label: str
    seed: int
    node: str
    attempt: int
    state: str  # pending, starting or running
    since: float  # seconds since the epoch, by the driver's clock
    seconds: float
    cpus: int
    gpus: float
    step: int | None = None
    steps: int | None = None
    rate: float | None = None
    left: float | None = None
    metric: float | None = None

    @classmethod
    def of(cls, trial: Running, now: float) -> RunningTrial:
        """The trial of a snapshot that was taken at `now`, in seconds since the epoch."""
        return cls(
            trial_id=trial.trial_id,
            label=trial.label,
            seed=trial.seed,
            node=trial.node,
            attempt=trial.attempt,
            state=trial.state,
            since=now - trial.seconds,
            seconds=trial.seconds,
            cpus=trial.cpus,
            gpus=trial.gpus,
            step=trial.step,
            steps=trial.steps,
            rate=trial.rate,
            left=trial.left,
            metric=trial.metric,
        )


class Failure(_Noted):
    """A trial that failed, diverged, or whose machine failed."""

    trial_id: str
    label: str
    seed: int
    status: str
    message: str | None


class LaunchNote(_Noted):
    """The state of a launch. Times are in seconds since the epoch, by the driver's clock."""

    launch: str
    suite: str
    command: str
    host: str
    process: int
    address: str
    begun: float
    written: float = 0.0
    as_of: float = 0.0  # when the driver's loop last told its state
    state: State = "running"
    message: str | None = None  # of a launch that ended with an error
    before: int = 0  # trials of the suite that had ended before
    counts: dict[str, int] = {}  # trials that ended during this launch, by status
    elsewhere_ended: int = 0  # of these, run by another launch on the store
    elsewhere: int = 0  # trials that another launch runs now
    waiting: int = 0
    retries: int = 0
    left: float | None = None  # seconds
    progress: str = ""
    reason: str = ""  # why a trial that could run waits
    quarantined: tuple[str, ...] = ()
    cpu_hours: float = 0.0
    gpu_hours: float = 0.0
    running: tuple[RunningTrial, ...] = ()
    failures: tuple[Failure, ...] = ()

    @property
    def ended(self) -> int:
        """Trials that have ended during this launch."""
        return sum(self.counts.values())

    def with_snapshot(self, snapshot: Snapshot, as_of: float) -> LaunchNote:
        """This note with the state of the launch at `as_of`."""
        changes = {
            "as_of": as_of,
            "counts": {name: count for name, count in snapshot.counts.items() if count},
            "elsewhere_ended": sum(one.outcome.elsewhere for one in snapshot.ended),
            "elsewhere": snapshot.elsewhere,
            "waiting": snapshot.waiting,
            "retries": snapshot.retries,
            "left": snapshot.eta,
            "progress": snapshot.note,
            "reason": snapshot.waits,
            "quarantined": snapshot.quarantined,
            "cpu_hours": snapshot.cpu_seconds / 3600,
            "gpu_hours": snapshot.gpu_seconds / 3600,
            "running": tuple(RunningTrial.of(trial, as_of) for trial in snapshot.running),
            "failures": tuple(_failures(snapshot.ended)),
        }
        return self.model_copy(update=changes)


def _failures(ended: Iterable[Ended]) -> list[Failure]:
    bad = [one for one in ended if one.outcome.status != "completed"]
    return [
        Failure(
            trial_id=one.trial_id,
            label=one.label,
            seed=one.seed,
            status=one.outcome.status,
            message=one.outcome.message,
        )
        for one in bad[-FAILURES:]
    ]


__all__ = ["Failure", "LaunchNote", "RunningTrial", "State"]
