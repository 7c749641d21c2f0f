"""What is known of each trial's attempts: how many, when the next may begin, and where not."""

from __future__ import annotations

import secrets
import time

from .jobs import Job
from .pool import Pool, Slot
from .ray_errors import is_lost_node

AVOID = 60.0  # seconds in which a trial does not go back to the node that failed it


class Attempts:
    """The attempts of all trials of a launch; a machine fault is retried `retries` times."""

    def __init__(self, retries: int) -> None:
        self.retries = retries
        self.count: dict[str, int] = {}
        self.begun: dict[str, float] = {}  # the first one
        self.not_before: dict[str, float] = {}
        self.failed_on: dict[str, tuple[str, float]] = {}  # the node, and until when it is avoided
        self.why: dict[str, str] = {}  # why a trial waits
        self.owners: dict[str, str] = {}  # who held each trial's claim last, as far as known
        self.before: dict[str, str | None] = {}  # the same, when the present attempt began

    def begin(self, trial_id: str, now: float) -> float:
        """Count another attempt; returns when it may begin, on the monotonic clock."""
        self.begun.setdefault(trial_id, now)
        self.count[trial_id] = self.count.get(trial_id, 0) + 1
        not_before = self.not_before.pop(trial_id, 0.0)
        if not_before <= now:
            self.why.pop(trial_id, None)
        return not_before

    def claim(self, trial_id: str) -> tuple[str, str | None]:
        """Owner of the claim in this attempt, and in the last, which is over."""
        self.before[trial_id] = self.owners.get(trial_id)
        self.owners[trial_id] = secrets.token_hex(8)
        return self.owners[trial_id], self.before[trial_id]

    def forget(self, trial_id: str) -> None:
        """It never ran: another launch runs it, or its node had no worker for it."""
        self.stopped(trial_id)
        self.begun.pop(trial_id, None)

    def stopped(self, trial_id: str) -> None:
        """It was asked to stop, and goes on from its checkpoint: that was no attempt."""
        self.count[trial_id] -= 1
        self.why.pop(trial_id, None)
        before = self.before.pop(trial_id, None)  # it may never have claimed the trial
        if before is not None:
            self.owners[trial_id] = before

    def failed(self, job: Job, message: str) -> bool:
        """The machine failed; returns whether another attempt is left. It begins at once if the
        node is gone, and the cause with it; else a little later."""
        trial_id = job.trial_id
        attempt = self.count[trial_id]
        if attempt > self.retries:
            return False
        pause = 0.0 if is_lost_node(message) else 2.0 ** (attempt - 2)
        self.not_before[trial_id] = time.monotonic() + pause
        when = f"in {pause:g} s" if pause else "now"
        self.why[trial_id] = f"{job} is tried again {when}: {message}"
        return True

    def leave(self, trial_id: str, slot: Slot) -> None:
        """Keep the trial away from this worker's node, if it is known."""
        if slot.node_id is not None:
            self.failed_on[trial_id] = slot.node_id, time.monotonic() + AVOID

    def away(self, pool: Pool, job: Job, now: float) -> set[str]:
        """The node that a job is kept away from, as far as others can hold it. Not for ever: they
        may have work for days."""
        node_id, until = self.failed_on.get(job.trial_id, ("", 0.0))
        return {node_id} if now < until and pool.can_spare(node_id, job) else set()

    def seconds(self, trial_id: str) -> float:
        """Since the first attempt began; 0 if there was none."""
        now = time.monotonic()
        return now - self.begun.get(trial_id, now)


__all__ = ["Attempts"]
