"""A plan as a source of jobs for the launcher."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness.launch import Job, Outcome
from harness.launch.resources import Resources
from harness.planning.estimate import estimated_flops
from harness.planning.forks import arrange_forks
from harness.planning.plan import Plan, Planned
from harness.planning.plan_file import can_show, shown_trials, write_plan
from harness.plugins import sources_of
from harness.suite import TrialSpec


class PlanJobs:
    """The jobs of a plan: which can start, and which have ended."""

    def __init__(
        self,
        plan: Plan,
        only: str | None = None,
        cpus: int = 1,
        gpus: float = 0.0,
        fork: bool = True,
        keep_at: Mapping[str, Iterable[int]] | None = None,
        parents: Iterable[TrialSpec] = (),
        resources: Resources | None = None,  # in place of cpus and gpus
    ):
        self.plan, self.resources = plan, resources or Resources(cpus, gpus)
        self.rows = plan.select(only)
        specs = [row.spec for row in self.rows if row.spec is not None] + list(parents)
        specs = specs if fork else []
        self.fork_plan = arrange_forks(
            specs, plan.store, plan.ended, keep_at, kept=plan.found.forks
        )
        self.given: set[str] = set()
        self.left = self.rows  # that were not handed out
        self.faulted: dict[str, str] = {}
        for row in self.rows:
            plan.state(row)  # so that `pending`, which is called often, reads no file

    def ready(self) -> list[Job]:
        """Jobs that can start and were not handed out before."""
        self.plan.resolve()
        self.left = [row for row in self.left if row.trial_id not in self.given]
        known = self.plan.results.keys()
        # A trial whose prerequisites have no result yet is not looked up: there may be thousands.
        rows = [row for row in self.left if all(need in known for need in row.needs)]
        missing = (row for row in self.plan.missing(rows) if self._can_begin(row))
        fresh = [self._job(row) for row in missing]
        self.given |= {job.trial_id for job in fresh}
        return fresh

    def done(self, trial_id: str, outcome: Outcome) -> None:
        """A trial has ended, or every attempt failed on its machine."""
        self.plan.found.learn(trial_id)
        if outcome.status != "faulted" and self.plan.result(trial_id) is not None:
            self.fork_plan.ended(trial_id)
            return
        self.faulted[trial_id] = outcome.message or outcome.status
        for row in self.plan.rows:
            if trial_id in row.needs and row.blocked is None:
                row.blocked = f"{trial_id}, which it needs, did not end"

    def pending(self) -> int:
        """How many roles have a trial that is not in the store and was not handed out yet."""
        over = self.given | self.plan.results.keys() | self.plan.damaged.keys()
        return sum(
            row.trial_id is None or row.trial_id not in over
            for row in self.rows
            if row.blocked is None
        )

    def note(self) -> str:
        """Nothing beyond the counts."""
        return ""

    def unfinished(self) -> list[str]:
        """One line for each trial without a usable result."""
        lines = []
        for row in self.rows:
            state = self.plan.state(row)
            if state in ("completed", "diverged"):
                continue
            trial_id = row.trial_id or ""
            reason = row.blocked or self.faulted.get(trial_id)
            result = self.plan.result(trial_id) if trial_id else None
            reason = (result or {}).get("message") or self.plan.damaged.get(trial_id) or reason
            said = f"{state} {row.name}, seed {row.role.trial.seed}"
            lines.append(f"{said}: {reason}" if reason else said)
        return lines

    def _can_begin(self, row: Planned) -> bool:
        """Whether everything that the trial needs is there, or can no longer come."""
        if not self.plan.ready(row):
            return False
        assert row.trial_id is not None
        begins = self.fork_plan.forks.get(row.trial_id)
        if begins is None or self.fork_plan.is_there(row.trial_id):
            return True
        return self.plan.ended(begins[0]) or begins[0] in self.faulted

    def _job(self, row: Planned) -> Job:
        assert row.spec is not None
        assert row.trial_id is not None
        trial_id, shape = row.trial_id, self.resources.shape_of(row.spec)
        fork = self.fork_plan.forks.get(trial_id)
        ahead = 1.0 if fork is None else 1.0 - fork[1] / row.spec.training.steps
        return Job(
            trial_id,
            row.spec.model_dump(mode="json"),
            row.name,
            cpus=shape.cpus,
            gpus=shape.gpus,
            memory=shape.memory,
            accelerator=shape.accelerator,
            fork=fork,
            keep_at=tuple(sorted(self.fork_plan.keep_at.get(trial_id, ()))),
            plugins=sources_of(row.spec),
            stage=row.stage,
            work=ahead * estimated_flops(row.spec),
        )


class SuiteJobs(PlanJobs):
    """The jobs of a suite's plan. The suite's tables show this plan once it has results."""

    def __init__(self, plan: Plan, command: str, **options: Any):
        super().__init__(plan, **options)
        self.command, self.written = command, False

    def begin(self) -> None:
        """All checks have passed: start to write."""
        self.plan.wipe()
        self.fork_plan.sweep()
        if can_show(self.plan, self.rows) or not shown_trials(
            self.plan.store, self.plan.suite.name
        ):
            self._write()

    def done(self, trial_id: str, outcome: Outcome) -> None:
        """As `PlanJobs.done`."""
        super().done(trial_id, outcome)
        if not self.written and can_show(self.plan, self.rows):
            self._write()

    def _write(self) -> None:
        write_plan(self.plan, self.command)
        self.written = True
