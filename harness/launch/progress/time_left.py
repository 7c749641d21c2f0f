"""Time left, from the trials that have ended and the progress of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..pool import Slot
from .snapshot import Ended, Running

EARLIEST = 0.02  # a projection from fewer than this fraction of the steps means nothing


def running_trial(slot: Slot, attempt: int, now: float, node: str = "") -> Running:
    """The state of the job in a slot, on the node of this name."""
    job, told = slot.job, slot.told
    assert job is not None
    seconds = now - slot.since
    fraction = _fraction(told)
    left = seconds * (1 - fraction) / fraction if fraction >= EARLIEST else None
    return Running(
        trial_id=job.trial_id,
        label=job.label,
        seed=job.spec.get("seed", 0),
        seconds=seconds,
        attempt=attempt,
        step=told.get("step"),
        steps=told.get("steps"),
        metric=told.get("metric"),
        state_dims=tuple(told.get("state_dims", ())),
        left=left,
        has_worker=slot.has_place(now),
        node=node,
        cpus=job.cpus,
        gpus=job.gpus,
    )


def _fraction(told: Mapping[str, Any]) -> float:
    """The fraction done of this process's steps; it may have begun in the middle."""
    first = told.get("first_step", 0)
    ahead = told.get("steps", 0) - first
    return (told["step"] - first) / ahead if ahead > 0 else 0.0


def time_left(
    ended: Sequence[Ended], running: Sequence[Running], waiting: int, slots: int
) -> float | None:
    """Seconds until all trials have ended; a waiting one is assumed to last the known mean."""
    whole = [e.outcome.seconds for e in ended if e.outcome.status == "completed"]
    whole += [trial.seconds + trial.left for trial in running if trial.left is not None]
    if not whole:
        return None
    mean = sum(whole) / len(whole)
    lefts = [max(mean - t.seconds, 0.0) if t.left is None else t.left for t in running]
    longest = max(lefts, default=0.0)
    return max(longest, (sum(lefts) + waiting * mean) / max(slots, 1))
