"""The launcher's input and output: jobs and outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from harness.plugins import Source

Status = Literal["completed", "diverged", "failed", "faulted"]


@dataclass(frozen=True)
class Job:
    """One trial to run and what it needs. `spec` is the JSON of a resolved `TrialSpec`."""

    trial_id: str
    spec: dict[str, Any]
    label: str
    cpus: int = 1
    gpus: float = 0.0
    fork: tuple[str, int] | None = None  # begin from this trial's state after this step
    keep_at: tuple[int, ...] = ()  # keep the state after these steps for others
    plugins: tuple[Source, ...] = ()  # code that it needs besides ours


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    `completed`, `diverged` and `failed` come from the trial's result; `failed` also covers a trial
    that could not begin and has no result. `faulted` means that the machine failed on every
    attempt: the trial has not ended and can be run again. `seconds` run from the trial's first
    start to its end, restarts included. With `elsewhere`, another launch on the same store ran the
    trial, and `seconds` are those that its record tells.
    """

    status: Status
    message: str | None
    seconds: float
    elsewhere: bool = False


class Jobs(Protocol):
    """A source of jobs, in the order of their dependencies."""

    def ready(self) -> list[Job]:
        """Jobs that can start now and were not handed out before. Called again and again."""
        ...

    def done(self, trial_id: str, outcome: Outcome) -> None:
        """A job has ended."""
        ...

    def pending(self) -> int:
        """How many jobs were not handed out yet."""
        ...

    def note(self) -> str:
        """A line on overall progress, beyond the counts; may be empty."""
        ...


class Interrupted(Exception):
    """Ctrl-C, SIGTERM or a lost cluster.

    `outcomes` holds what has ended; the rest resumes from checkpoints.
    """

    def __init__(self, outcomes: list[tuple[Job, Outcome]]):
        super().__init__(f"interrupted after {len(outcomes)} ended trials")
        self.outcomes = outcomes


class Lost(Interrupted):
    """The head of the cluster no longer answers."""
