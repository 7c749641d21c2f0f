"""Trials that another launch on the same store runs: they are awaited."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from harness.records.lease import Watch
from harness.records.states import Damaged
from harness.records.store import Store

from .jobs import Job, Outcome

AT_A_LOOK = 50  # trials, so that a look stays short on any storage


@dataclass(frozen=True)
class Look:
    """What has changed: jobs with a result, and jobs that nobody runs any more, each with the owner
    to take it over from."""

    ended: list[tuple[Job, Outcome]]
    left: list[tuple[Job, str]]


class Elsewhere:
    """The jobs that other launches run, as far as the store tells."""

    def __init__(self, store: Store) -> None:
        self.store, self.watch = store, Watch()
        self.jobs: dict[str, Job] = {}

    def add(self, job: Job) -> None:
        """Another process holds this job's trial."""
        self.jobs[job.trial_id] = job

    def look(self) -> Look:
        """Take the jobs that have ended or were left by their process off the list."""
        ended, left = [], []
        for job in list(islice(self.jobs.values(), AT_A_LOOK)):
            del self.jobs[job.trial_id]
            outcome = self.outcome(job)
            owner = self._silent_owner(job) if outcome is None else None
            if outcome is not None:
                ended.append((job, outcome))
            elif owner is not None:
                left.append((job, owner))
            else:
                self.jobs[job.trial_id] = job  # behind those that were not looked at
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

    def _silent_owner(self, job: Job) -> str | None:
        try:
            return self.store.trial(job.trial_id).silent_owner(self.watch)
        except OSError:
            return None
        except ValueError:  # the worker that tries next says what is wrong
            return ""


__all__ = ["Elsewhere", "Look"]
