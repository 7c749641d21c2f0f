"""The launcher's input and output: jobs and outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from harness.plugins import Source

ACCELERATOR = "accelerator_type:"  # so begins the name of Ray's resource for a type of GPU
SOME = 0.001  # of that resource, which only says that it is there
Status = Literal["completed", "diverged", "failed", "faulted"]


class Shape(NamedTuple):
    """The resources of a worker. Workers of one shape are interchangeable."""

    cpus: int
    gpus: float
    memory: int = 0  # bytes
    accelerator: str | None = None  # the type of the GPUs

    def resources(self) -> dict[str, float]:
        """In Ray's words."""
        wanted = {"CPU": float(self.cpus), "GPU": self.gpus, "memory": float(self.memory)}
        if self.accelerator:
            wanted[f"{ACCELERATOR}{self.accelerator}"] = SOME
        return {name: count for name, count in wanted.items() if count}

    def __str__(self) -> str:
        of = f" of type {self.accelerator}" if self.accelerator else ""
        memory = f" and {self.memory / 1e9:g} GB of memory" if self.memory else ""
        return f"{self.cpus} CPUs and {self.gpus:g} GPUs{of}{memory}"


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
    memory: int = 0  # bytes that Ray sets aside
    accelerator: str | None = None  # the type of its GPUs
    stage: int = 0  # what others wait for goes first, and in a stage the longest
    work: float = 0.0  # estimated FLOPs

    def __str__(self) -> str:
        return f"{self.label}, seed {self.spec['seed']}" if "seed" in self.spec else self.label

    @property
    def shape(self) -> Shape:
        """What its worker must have."""
        return Shape(self.cpus, self.gpus, self.memory, self.accelerator)


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
