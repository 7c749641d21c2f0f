"""How this process runs a trial: no part of its spec, and nothing that changes its numbers."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

Progress = Callable[[dict[str, Any]], None]


class Interrupted(Exception):
    """Asked to stop; the checkpoint holds everything up to here."""


@dataclass(frozen=True)
class Fork:
    """Where a trial forks from another, whose state right after optimizer step `step` is kept."""

    trial_id: str
    step: int


@dataclass(frozen=True)
class Execution:
    """What the caller of a trial asks for.

    progress is told what the trial is doing after every boundary; stop is asked there whether to
    take a checkpoint and end. exclusive says that the cores or the GPU are the trial's alone, and
    device_share is the part of the GPU that it has. checkpoint_seconds None means
    HARNESS_CHECKPOINT_SECONDS. The trial begins at `fork` rather than at step 0 where that state is
    still there, and keeps its own after the steps in `keep_at`, where others fork from it.
    """

    progress: Progress = lambda _: None
    stop: Callable[[], bool] = lambda: False
    exclusive: bool = False
    device_share: float = 1.0
    checkpoint_seconds: float | None = None
    fork: Fork | None = None
    keep_at: Collection[int] = ()
