"""A suite's plan: the trials that it still needs, and in which order."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

from harness.records.index import Results
from harness.records.sizes import block_sizes
from harness.records.states import Damaged
from harness.records.store import Store
from harness.suite import Role, Suite, TrialSpec
from harness.suite.explain import validated
from harness.tools.inputs import cut


@dataclass
class Planned:
    """One role, and the trial that it becomes once its sizes are known."""

    role: Role
    needs: tuple[str, ...]  # ids of trials that must have completed first
    spec: TrialSpec | None = None
    blocked: str | None = None
    _id_of: tuple[TrialSpec | None, str | None] = (None, None)

    @property
    def trial_id(self) -> str | None:
        """The trial's id, once its sizes are known. Working it out takes a while."""
        if self._id_of[0] is not self.spec:
            self._id_of = self.spec, self.spec.trial_id if self.spec is not None else None
        return self._id_of[1]

    @property
    def name(self) -> str:
        """`TASK/LABEL` of its row."""
        return f"{self.role.task}/{self.role.label}"

    @property
    def stage(self) -> int:
        """0 if it can start at once, 1 if it waits for another trial."""
        return 1 if self.needs else 0


@dataclass
class Plan:
    """All roles of a suite, checked against a store. More of them resolve as trials end."""

    suite: Suite
    store: Store
    of: str = ""  # the suite's own name, if it runs under another
    rows: list[Planned] = field(default_factory=list)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    forgotten: set[str] = field(default_factory=set)
    damaged: dict[str, str] = field(default_factory=dict)  # by trial: what is wrong, and what to do
    trials_of: dict[tuple[str, str], dict[int, TrialSpec]] = field(default_factory=dict)
    found: Results = field(init=False)

    def __post_init__(self) -> None:
        self.found = Results(self.store)
        self.suite = validated(self.suite, Suite)
        roles = list(self.suite.roles())
        for role in roles:
            of_row = self.trials_of.setdefault((role.task, role.label), {})
            of_row[role.trial.seed] = role.trial
        self.rows = [Planned(role, self._needs(role)) for role in roles]
        self.resolve()

    def resolve(self) -> None:
        """Set the sizes of every role whose prerequisites have ended."""
        for row in self.rows:
            if row.spec is None and row.blocked is None:
                self._resolve(row)

    def result(self, trial_id: str) -> dict[str, Any] | None:
        """A trial's result in the store, or None. It is final, so it is read only once.

        A damaged result counts as None, and is listed in `damaged`.
        """
        if trial_id in self.damaged:
            return None
        if trial_id not in self.results and trial_id not in self.forgotten:
            try:
                found = self.found.result(trial_id)
            except Damaged as error:
                self.damaged[trial_id] = str(error)
                return None
            if found is None:
                return None
            self.results[trial_id] = found
        return self.results.get(trial_id)

    def look(self) -> None:
        """Other processes may have ended trials: resolve what that allows."""
        self.found.look()
        self.resolve()

    def ended(self, trial_id: str) -> bool:
        """Whether the trial has ended, even if its record is damaged."""
        return self.result(trial_id) is not None or trial_id in self.damaged

    def forget(self, statuses: Collection[str], among: Iterable[Planned]) -> None:
        """Treat trials of these rows that ended so as missing; `wipe` removes their records."""
        rows = [row for row in among if row.spec is not None and self.state(row) in statuses]
        self.forgotten |= {row.trial_id for row in rows if row.trial_id is not None}
        for trial_id in self.forgotten:
            self.results.pop(trial_id, None)
        for row in self.rows if rows else ():
            row.spec, row.blocked = None, None
        self.resolve()

    def wipe(self) -> None:
        """Remove the records of forgotten trials."""
        for trial_id in self.forgotten:
            with self.store.trial(trial_id).claim() as folder:
                folder.wipe()
        self.forgotten.clear()
        self.found.look()

    def state(self, row: Planned) -> str:
        """`completed`, `diverged`, `failed`, `damaged`, `blocked`, `waiting` (for sizes) or
        `missing`."""
        if row.blocked is not None:
            return "blocked"
        if row.trial_id is None:
            return "waiting"
        result = self.result(row.trial_id)
        if row.trial_id in self.damaged:
            return "damaged"
        return "missing" if result is None else result["status"]

    def select(self, glob: str | None) -> list[Planned]:
        """Roles whose `TASK/LABEL` matches, and the roles that they need.

        Raises:
            ValueError: no row matches.
        """
        if glob is None:
            return self.rows
        chosen = [row for row in self.rows if fnmatch(row.name, glob)]
        if not chosen:
            names = ", ".join(dict.fromkeys(row.name for row in self.rows))
            raise ValueError(f"--only {cut(glob)}: no row matches; there are {cut(names, 1_000)}")
        needed = {trial_id for row in chosen for trial_id in row.needs}
        asked = {id(row) for row in chosen}
        return [r for r in self.rows if id(r) in asked or r.role.trial.trial_id in needed]

    def missing(self, rows: Iterable[Planned]) -> Iterator[Planned]:
        """The resolved trials among rows that have not ended, each once, prerequisites first."""
        seen: set[str] = set()
        for row in sorted(rows, key=lambda row: row.stage):
            if row.trial_id is None or row.trial_id in seen:
                continue
            seen.add(row.trial_id)
            if self.state(row) == "missing":
                yield row

    def ready(self, row: Planned) -> bool:
        """Whether everything that a resolved trial needs has completed."""
        return all(self._completed(trial_id) for trial_id in row.needs)

    def record(self) -> dict[str, Any]:
        """The plan as JSON: settings and the roles that have a trial."""
        of = {"of": self.of} if self.of not in ("", self.suite.name) else {}
        return {
            **of,
            "suite": self.suite.model_dump(mode="json"),
            "trials": [
                {
                    "trial_id": row.trial_id,
                    "label": row.role.label,
                    "role": row.role.kind,
                    "matches": row.role.matches,
                    "comparison": row.role.comparison,
                    "task": row.role.task,
                    "seed": row.role.trial.seed,
                }
                for row in self.rows
                if row.spec is not None
            ],
        }

    def _needs(self, role: Role) -> tuple[str, ...]:
        source = role.trial.source()
        needs = [] if source is None else [source.trial_id]
        return (*needs, *(trial.trial_id for trial in self._matched(role)))

    def _matched(self, role: Role) -> list[TrialSpec]:
        source = role.trial.arm.sizes_of
        if source is None or role.matches is None:
            return []
        of_row = self.trials_of[role.task, role.matches]  # by seed
        return list(of_row.values()) if source.over == "mean" else [of_row[role.trial.seed]]

    def _resolve(self, row: Planned) -> None:
        trial, arm = row.role.trial, row.role.trial.arm
        for trial_id in row.needs:
            result = self.result(trial_id)
            if result is not None and result["status"] != "completed":
                row.blocked = f"{trial_id}, which it needs, has {result['status']}"
                return
            if trial_id in self.damaged:
                row.blocked = f"{trial_id}, which it needs, is damaged"
                return
        if arm.sizes_of is None:
            row.spec = trial.resolved()
            return
        matched = self._matched(row.role)
        results = [self.result(t.trial_id) for t in matched]
        if any(result is None for result in results):
            return
        records = [result["record"] for result in results if result is not None]
        sizes = [block_sizes(one["state_dims"], one.get("orders")) for one in records]
        sized = arm.with_sizes(sizes, trial.model.blocks)
        row.spec = trial.model_copy(update={"arm": sized}).resolved()

    def _completed(self, trial_id: str) -> bool:
        result = self.result(trial_id)
        return result is not None and result["status"] == "completed"
