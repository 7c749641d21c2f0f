"""A study's stages as one stream of jobs for the launcher."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from harness.launch import Job, Outcome
from harness.launch.plan_jobs import PlanJobs
from harness.launch.run_suite import RunOptions
from harness.planning.plan import Plan
from harness.records.store import Store

from .study_stages import Stage


class StudyJobs:
    """Jobs of one stage at a time. The next stage begins when all jobs of this one have ended.

    `ahead` counts the trials expected in later stages; `progress` describes the study's
    progress in one line.
    """

    def __init__(
        self,
        stages: Iterator[Stage],
        store: Store,
        options: RunOptions,
        ahead: Callable[[], int],
        progress: Callable[[], str],
    ):
        self.stages, self.store, self.options = stages, store, options
        self.ahead, self.progress = ahead, progress
        self.current: PlanJobs | None = None
        self.open: set[str] = set()
        self.said = ""

    def ready(self) -> list[Job]:
        """Jobs that can start. When a stage is over, this concludes it and begins the next."""
        while True:
            if self.current is None:
                stage = next(self.stages, None)
                if stage is None:
                    return []
                self.current = self._jobs_of(stage)
                self.said = self.progress()
            jobs = self.current.ready()
            self.open |= {job.trial_id for job in jobs}
            if jobs or self.open:
                return jobs
            self.current = None

    def done(self, trial_id: str, outcome: Outcome) -> None:
        """A trial has ended, or every attempt failed on its machine."""
        assert self.current is not None
        self.open.discard(trial_id)
        self.current.done(trial_id, outcome)
        self.said = self.progress()

    def pending(self) -> int:
        """Trials that this stage has not handed out yet, plus those expected in later stages."""
        return (self.current.pending() if self.current else 0) + self.ahead()

    def note(self) -> str:
        """The study's progress in one line."""
        return self.said

    def _jobs_of(self, stage: Stage) -> PlanJobs:
        return PlanJobs(
            Plan(stage.suite, self.store),
            resources=self.options.resources.at(self.options.address),
            fork=self.options.fork,
            keep_at=stage.keep_at,
            parents=stage.parents,
        )
