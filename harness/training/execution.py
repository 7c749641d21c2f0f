"""How this process runs a trial: not in its spec, and without effect on its numbers."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from harness.records.lease import Watch

Progress = Callable[[dict[str, Any]], None]


class Interrupted(Exception):
    """The trial was asked to stop; its checkpoint holds everything so far."""


@dataclass(frozen=True)
class Fork:
    """Where a trial forks from another that keeps its state right after optimizer step `step`."""

    trial_id: str
    step: int


@dataclass(frozen=True)
class Execution:
    """What the caller of a trial asks for.

    progress is called after every boundary with what the trial is doing; stop is asked there
    whether to take a checkpoint and end. exclusive: the trial has its cores or its GPU to itself.
    device_share: its fraction of the GPU. checkpoint_seconds None means HARNESS_CHECKPOINT_SECONDS.
    The trial starts from `fork` rather than from step 0 if that state still exists. It keeps its
    own state after the steps in `keep_at`, where others fork from it. owner, instead_of and watch
    are those of the trial's claim; see `harness.records.lease`.
    """

    progress: Progress = lambda _: None
    stop: Callable[[], bool] = lambda: False
    exclusive: bool = False
    device_share: float = 1.0
    checkpoint_seconds: float | None = None
    fork: Fork | None = None
    keep_at: Collection[int] = ()
    owner: str | None = None
    instead_of: str | None = None
    watch: Watch | None = None
