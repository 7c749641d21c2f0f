"""What a suite still needs, in which order, and at what estimated cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

from harness.records.store import Store
from harness.suite import Role, Suite, TrialSpec
from harness.suite.specs import ModelSpec
from harness.training.flops import step_flops

STAGES = ("trained from scratch", "after another trial of its seed")


@dataclass
class Planned:
    """One role, and the trial that it resolves to once its sizes are known."""

    role: Role
    needs: tuple[str, ...]  # ids of trials that must have completed first
    spec: TrialSpec | None = None
    blocked: str | None = None

    @property
    def stage(self) -> int:
        """0 for what can start at once, 1 for what waits for another trial."""
        return 1 if self.needs else 0


@dataclass
class Plan:
    """All roles of a suite against a store; resolves more of them as trials end."""

    suite: Suite
    store: Store
    rows: list[Planned] = field(default_factory=list)

    def __post_init__(self) -> None:
        roles = list(self.suite.roles())
        self.rows = [Planned(role, self._needs(role, roles)) for role in roles]
        self.resolve()

    def resolve(self) -> None:
        """Give sizes to every role whose prerequisites have ended."""
        for row in self.rows:
            if row.spec is None and row.blocked is None:
                self._resolve(row)

    def result(self, trial_id: str) -> dict[str, Any] | None:
        """A trial's result in the store, or None."""
        return self.store.trial(trial_id).result()

    def state(self, row: Planned) -> str:
        """`completed`, `diverged`, `failed`, `blocked`, `waiting` (for sizes) or `missing`."""
        if row.blocked is not None:
            return "blocked"
        if row.spec is None:
            return "waiting"
        result = self.result(row.spec.trial_id)
        return "missing" if result is None else result["status"]

    def missing(self) -> Iterator[Planned]:
        """The resolved trials that have not ended, each once, prerequisites first."""
        seen: set[str] = set()
        for row in sorted(self.rows, key=lambda row: row.stage):
            if row.spec is None or row.spec.trial_id in seen:
                continue
            seen.add(row.spec.trial_id)
            if self.result(row.spec.trial_id) is None and row.blocked is None:
                yield row

    def ready(self, row: Planned) -> bool:
        """Whether everything that a resolved trial needs has completed."""
        return all(self._completed(trial_id) for trial_id in row.needs)

    def record(self) -> dict[str, Any]:
        """The plan as JSON: settings and the roles that have a trial."""
        return {
            "suite": self.suite.model_dump(mode="json"),
            "trials": [
                {
                    "trial_id": row.spec.trial_id,
                    "label": row.role.label,
                    "role": row.role.kind,
                    "matches": row.role.matches,
                    "task": row.role.task,
                    "seed": row.role.trial.seed,
                }
                for row in self.rows
                if row.spec is not None
            ],
        }

    def _needs(self, role: Role, roles: list[Role]) -> tuple[str, ...]:
        source = role.trial.source()
        needs = [] if source is None else [source.trial_id]
        return (*needs, *(trial.trial_id for trial in self._matched(role, roles)))

    @staticmethod
    def _matched(role: Role, roles: list[Role]) -> list[TrialSpec]:
        match = getattr(role.trial.arm, "match", None)
        if match is None:
            return []
        trials = [r.trial for r in roles if r.label == role.matches and r.task == role.task]
        return [t for t in trials if match == "mean" or t.seed == role.trial.seed]

    def _resolve(self, row: Planned) -> None:
        trial, arm = row.role.trial, row.role.trial.arm
        for trial_id in row.needs:
            result = self.result(trial_id)
            if result is not None and result["status"] != "completed":
                row.blocked = f"{trial_id}, which it needs, has {result['status']}"
                return
        if getattr(arm, "match", None) is None:
            row.spec = trial.resolved()
            return
        matched = self._matched(row.role, [r.role for r in self.rows])
        results = [self.result(t.trial_id) for t in matched]
        if any(result is None for result in results):
            return
        dims = [result["record"]["state_dims"] for result in results if result is not None]
        if arm.match == "mean":
            dims = [[round(mean(n for one in dims for n in one))] * trial.model.blocks]
        sized = {**arm.model_dump(), "match": None, "to": None, "state_dims": tuple(dims[0])}
        row.spec = trial.model_copy(update={"arm": type(arm)(**sized)}).resolved()

    def _completed(self, trial_id: str) -> bool:
        result = self.result(trial_id)
        return result is not None and result["status"] == "completed"


def estimated_flops(trial: TrialSpec) -> float:
    """Training FLOPs of a trial at its present sizes: an upper bound where it will truncate."""
    steps = trial.arm.train_steps(trial.training.steps)
    model = trial.model
    if getattr(trial.arm, "state_dims", None):
        dims = list(trial.arm.state_dims)
        dims = dims * model.blocks if len(dims) == 1 else dims
        model = ModelSpec(**{**model.model_dump(), "state_dim": dims})
    info = trial.task.info
    return steps * step_flops(model, info, model.state_dims, trial.training.batch_size)


def measured_rate(store: Store) -> float | None:
    """Training FLOPs per second of all the completed trials in a store, or None without any."""
    records = [store.trial(i).result() for i in store.ended_trials()]
    done = [r["record"] for r in records if r and r["status"] == "completed"]
    seconds = sum(r["seconds_total"] for r in done)
    return sum(r["train_flops"] for r in done) / seconds if seconds > 0 else None


def summary(plan: Plan) -> dict[str, Any]:
    """Counts, FLOPs and time of what is missing, stage by stage, as JSON."""
    rate = measured_rate(plan.store)
    stages = []
    for number, title in enumerate(STAGES):
        rows = [row for row in plan.rows if row.stage == number]
        if not rows:
            continue
        states = [plan.state(row) for row in rows]
        todo: dict[str, float] = {}
        for row, state in zip(rows, states, strict=True):
            if state in ("missing", "waiting"):
                spec = row.spec or row.role.trial
                todo[spec.trial_id] = estimated_flops(spec)
        stages.append(
            {
                "stage": number,
                "title": title,
                "roles": len(rows),
                "done": sum(s in ("completed", "diverged", "failed") for s in states),
                "missing": sum(s in ("missing", "waiting") for s in states),
                "blocked": sum(s == "blocked" for s in states),
                "estimated_flops": sum(todo.values()),
                "estimated_seconds": sum(todo.values()) / rate if rate else None,
            }
        )
    return {"suite": plan.suite.name, "flops_per_second": rate, "stages": stages}
