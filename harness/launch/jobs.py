"""What the launcher takes and gives back."""

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
    fork: tuple[str, int] | None = None  # begin where this trial was behind this step
    keep_at: tuple[int, ...] = ()  # keep the state behind these steps for others
    plugins: tuple[Source, ...] = ()  # the code that it needs beside ours


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    `completed`, `diverged` and `failed` are what the trial's result says (`failed` also stands
    for a trial that could not begin, which leaves no result). `faulted` means that the machine
    failed on every attempt: the trial has not ended and can be run again. `seconds` are those
    from the first start of the trial to its end, restarts included.
    """

    status: Status
    message: str | None
    seconds: float


class Jobs(Protocol):
    """Where jobs come from, in the order of their dependencies."""

    def ready(self) -> list[Job]:
        """Jobs that can start now and were not handed out yet; asked again and again."""
        ...

    def done(self, trial_id: str, outcome: Outcome) -> None:
        """A job has ended."""
        ...

    def pending(self) -> int:
        """How many jobs were not handed out yet."""
        ...

    def note(self) -> str:
        """A line about where the whole stands, beyond what is counted; may be empty."""
        ...


class Interrupted(Exception):
    """Ctrl-C or SIGTERM. What has ended is in `outcomes`; the rest resumes from checkpoints."""

    def __init__(self, outcomes: list[tuple[Job, Outcome]]):
        super().__init__(f"interrupted after {len(outcomes)} ended trials")
        self.outcomes = outcomes
