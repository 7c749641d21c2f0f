"""The state of a launch under way, for those who watch it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .attempts import Attempts
from .elsewhere import Elsewhere
from .jobs import Job, Jobs
from .pool import Pool
from .progress import Ended, Snapshot
from .progress.time_left import running_trial, time_left
from .tally import Tally


@dataclass(frozen=True)
class Picture:
    """What a launch consists of, as far as it is shown; `start` is on the monotonic clock."""

    pool: Pool
    jobs: Jobs
    attempts: Attempts
    elsewhere: Elsewhere
    tally: Tally
    start: float

    def at(self, now: float, queue: Sequence[Job], ended: Sequence[Ended]) -> Snapshot:
        """What runs, what has ended and what waits."""
        busy, tally, count = self.pool.busy, self.tally, self.attempts.count
        running = tuple(
            running_trial(slot, count[slot.job.trial_id], now, tally.place(slot, self.pool))
            for slot in busy
            if slot.job is not None
        )
        waiting = len(queue) + self.jobs.pending()
        cpus, gpus = tally.spent(busy, now)
        return Snapshot(
            tuple(ended),
            running,
            waiting,
            now - self.start,
            time_left(ended, running, waiting, len(busy)),
            self.jobs.note(),
            self._reason(now, queue),
            elsewhere=len(self.elsewhere.jobs),
            retries=tally.retries,
            takeovers=tally.takeovers,
            quarantined=tuple(tally.quarantined),
            cpu_seconds=cpus,
            gpu_seconds=gpus,
        )

    def _reason(self, now: float, queue: Sequence[Job]) -> str:
        """Why a trial that could run waits; empty if none does."""
        busy = self.pool.busy
        later = [slot.job for slot in busy if slot.job is not None and slot.not_before > now]
        reasons = (self.attempts.why.get(job.trial_id, "") for job in (*later, *queue))
        # While something runs, a job without a slot just waits its turn.
        return next((why for why in reasons if why and not (busy and "no node" in why)), "")


__all__ = ["Picture"]
