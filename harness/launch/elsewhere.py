"""Trials that another launch on the same store runs: they are awaited."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.records.locks import Busy
from harness.records.states import Damaged
from harness.records.store import Store

from .jobs import Job, Outcome


@dataclass(frozen=True)
class Look:
    """What has changed: jobs with a result, and jobs that nobody runs any more."""

    ended: list[tuple[Job, Outcome]]
    left: list[Job]


class Elsewhere:
    """The jobs that other launches run, as far as the store tells."""

    def __init__(self, root: Path) -> None:
        self.store = Store(root)
        self.jobs: dict[str, Job] = {}

    def add(self, job: Job) -> None:
        """Another process holds this job's trial."""
        self.jobs[job.trial_id] = job

    def look(self) -> Look:
        """Take the jobs that have ended or were left by their process off the list."""
        ended, left = [], []
        for job in list(self.jobs.values()):
            outcome = self.outcome(job)
            if outcome is not None:
                ended.append((job, outcome))
            elif self._is_free(job):
                left.append(job)
            else:
                continue
            del self.jobs[job.trial_id]
        return Look(ended, left)

    def outcome(self, job: Job) -> Outcome | None:
        """How another launch ended this trial; None if the store has no result of it."""
        trial = self.store.trial(job.trial_id)
        if not trial.ended():
            return None
        try:
            result = trial.result()
        except Damaged as error:
            return Outcome("failed", str(error), 0.0, elsewhere=True)
        if result is None:  # wiped in between
            return None
        seconds = result.get("record", {}).get("seconds_spent", 0.0)
        return Outcome(result["status"], result.get("message"), seconds, elsewhere=True)

    def _is_free(self, job: Job) -> bool:
        """Whether no process holds the trial. A dead process holds nothing."""
        try:
            with self.store.trial(job.trial_id).claim():
                return True
        except Busy:
            return False
        except OSError:  # the worker that tries next says what is wrong
            return True


__all__ = ["Elsewhere", "Look"]
