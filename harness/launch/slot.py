"""A worker and its current job."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from .jobs import Job, Shape

MAKING = 120.0  # seconds that a process may take; after that Ray seems to have no place for it
_ANYWHERE: frozenset[str] = frozenset()


@dataclass(eq=False)
class Slot:
    """A worker and its current job, which begins once the worker has answered."""

    actor: Any
    cpus: int
    gpus: float
    job: Job | None = None
    away: frozenset[str] = _ANYWHERE  # nodes on which Ray does not place it
    since: float = 0.0
    not_before: float = 0.0
    arguments: tuple[Any, ...] = ()  # of the worker's `run`
    run_ref: Any = None  # None until the job has begun
    poll_ref: Any = None
    polled: float = 0.0
    node_id: str | None = None  # as far as known
    where_ref: Any = None
    answered: bool = False  # whether the worker has ever answered: until then Ray is making it
    placed: bool = True  # whether there seems to be a place for it, if it has not answered
    told: dict[str, Any] = field(default_factory=dict)
    memory: int = 0
    accelerator: str | None = None

    @property
    def shape(self) -> Shape:
        """What the worker has."""
        return Shape(self.cpus, self.gpus, self.memory, self.accelerator)

    def has_place(self, now: float) -> bool:
        """Whether the worker is there, or Ray seems to be making its process."""
        return self.answered or (self.placed and now - self.since < MAKING)

    @property
    def is_making(self) -> bool:
        """Whether its job waits for the worker's process."""
        return self.job is not None and self.run_ref is None and not self.answered

    def may_run(self, away: Collection[str]) -> bool:
        """Whether the worker is, and if still being made will be, on none of these nodes."""
        return self.away.issuperset(away) if self.node_id is None else self.node_id not in away
