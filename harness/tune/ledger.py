"""A study's ledger: its candidates, their trials, and what they cost.

All numbers come from trial records; `study.json` only maps candidates to trials. So a study's
report needs neither Optuna's storage nor the file that defines the study.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.arms import Arm
from harness.records.store import Store
from harness.suite import FullSpec, TrialSpec
from harness.tasks.metrics import METRICS

from .study_spec import Study

if TYPE_CHECKING:
    from .search.ask_and_tell import Asked

OBJECTIVES = {"train_flops": "flops_method", "state_dim_mean": "state_dim_mean"}


@dataclass
class Candidate:
    """A setting being tried: its arm, and its trial on every seed."""

    number: int
    origin: str
    arm: Arm
    setting: dict[str, Any]
    trials: dict[int, TrialSpec]
    state: str = "running"
    why: str | None = None

    @property
    def label(self) -> str:
        """Its row in tables."""
        return f"c{self.number}"


@dataclass
class Ledger:
    """The ledger of one study in one store."""

    study: Study
    store: Store
    command: str
    candidates: dict[int, Candidate] = field(default_factory=dict)
    finalists: list[int] = field(default_factory=list)
    state: str = "searching"
    recommendation: dict[str, Any] | None = None
    known: int = 0  # candidates in the earlier study.json
    earlier: tuple[list[int], dict[str, Any]] | None = None  # earlier finalists and answer
    _results: dict[str, dict[str, Any]] = field(default_factory=dict)
    _keep: set[int] = field(default_factory=set)

    # Candidates and their trials

    def full(self, seed: int) -> TrialSpec:
        """The full-size trial of a seed, from which its candidates fork."""
        return self.study.base.model_copy(update={"arm": FullSpec(), "seed": seed})

    def enter(self, asked: Asked, arm: Arm) -> Candidate:
        """Enter a candidate that the search asked for."""
        trials = {
            seed: self.study.base.model_copy(update={"arm": arm, "seed": seed})
            for seed in self.study.seeds
        }
        setting = self.study.setting(asked.params).model_dump(mode="json")
        candidate = Candidate(asked.number, asked.origin, arm, setting, trials)
        return self.candidates.setdefault(asked.number, candidate)

    def end(self, candidate: Candidate, state: str, why: str | None) -> None:
        """Record how a candidate ended."""
        candidate.state, candidate.why = state, why

    def arms(self) -> dict[int, Arm]:
        """Arms by number."""
        return {number: candidate.arm for number, candidate in self.candidates.items()}

    # From the records

    def record(self, trial: TrialSpec) -> dict[str, Any] | None:
        """A trial's record, or None while it has not ended."""
        trial_id = trial.trial_id
        if trial_id not in self._results:
            result = self.store.trial(trial_id).result()
            if result is None:
                return None
            self._results[trial_id] = result["record"]
        return self._results[trial_id]

    def status(self, trial: TrialSpec) -> str | None:
        """`completed`, `diverged` or `failed`; None while it has not ended."""
        record = self.record(trial)
        return None if record is None else record["status"]

    def metrics(self, trials: Mapping[int, TrialSpec]) -> dict[int, float]:
        """The validation metric by seed, of the trials that completed.

        Raises:
            ValueError: a full-size trial did not complete, so there is no reference.
        """
        found = {}
        for seed, trial in trials.items():
            record = self.record(trial)
            if record is not None and record["status"] == "completed":
                found[seed] = float(record["val_metric"])
            elif trial.arm.baseline == "full":
                ended = "has not ended" if record is None else f"has {record['status']}"
                raise ValueError(f"the full-size trial of seed {seed} {ended}")
        return found

    def score(self, candidate: Candidate) -> tuple[list[float], float | None]:
        """(values of the study's objectives, deficit beyond the margin), averaged over seeds."""
        study = self.study
        records = {s: self.record(t) for s, t in candidate.trials.items()}
        metric = self.metrics(candidate.trials)
        columns = {name: column for name, column in OBJECTIVES.items() if name in study.objectives}
        costs = [
            statistics.fmean(float(r[column]) for r in records.values() if r is not None)
            for column in columns.values()
        ]
        if study.goal == "pareto":
            return [statistics.fmean(metric.values()), *costs], None
        assert study.margin is not None
        sign = 1.0 if METRICS[study.base.task.metric].higher_is_better else -1.0
        full = self.metrics({s: self.full(s) for s in metric})
        deficit = statistics.fmean(sign * (full[s] - metric[s]) for s in metric)
        return costs, deficit - study.margin

    # Cost

    def spent(self) -> dict[str, float]:
        """FLOPs and hours of the search: actually spent, and as if every trial had run alone."""
        trials = [self.full(seed) for seed in self.study.seeds]
        trials += [t for c in self.candidates.values() for t in c.trials.values()]
        unique = {trial.trial_id: self.record(trial) for trial in trials}
        records = [record for record in unique.values() if record is not None]
        return {
            "candidates": sum(c.state != "running" for c in self.candidates.values()),
            "flops": sum(r["flops_spent"] for r in records),
            "flops_alone": sum(r["train_flops"] for r in records),
            "seconds": sum(r["seconds_spent"] for r in records),
            "gpu_hours": sum(r["seconds_spent"] * r["device_share"] for r in records) / 3600,
        }

    def affords(self, k: int) -> bool:
        """Whether the budget allows batch k, assuming it costs as much as earlier batches did."""
        budget, size = self.study.budget, self.study.batch
        if budget.candidates is not None and (k + 1) * size > budget.candidates:
            return False
        if k == 0:
            return True  # `check_budget` has checked it
        spent, full = self.spent(), self.full_spent()
        return all(
            limit is None or spent[name] + (spent[name] - full[name]) / k <= limit
            for name, limit in (("flops", budget.flops), ("gpu_hours", budget.gpu_hours))
        )

    def check_budget(self) -> None:
        """Refuse a budget of hours too small for the full model and one batch of candidates.

        Their hours are known only once the full model has run; FLOPs are known beforehand.

        Raises:
            ValueError: with the numbers.
        """
        hours, limit = self.full_spent()["gpu_hours"], self.study.budget.gpu_hours
        least = hours * (1 + self.study.batch)
        if limit is not None and limit < least:
            raise ValueError(
                f"budget.gpu_hours {limit:.3g} is less than the full model and one batch of "
                f"candidates may need: {hours:.3g} hours and {self.study.batch} times as much"
            )

    def full_spent(self) -> dict[str, float]:
        """FLOPs and hours of the full model on the search seeds."""
        found = (self.record(self.full(seed)) for seed in self.study.seeds)
        records = [record for record in found if record is not None]
        return {
            "flops": sum(r["flops_spent"] for r in records),
            "gpu_hours": sum(r["seconds_spent"] * r["device_share"] for r in records) / 3600,
        }

    # States that later candidates fork from

    def hold(
        self, candidates: Iterable[Candidate], seeds: tuple[int, ...]
    ) -> dict[str, tuple[int, ...]]:
        """Choose which states to keep for later candidates to fork from; steps by trial.

        The full-size trial keeps them all. If it ended before this study began and kept none, the
        candidates that pass those steps keep them.
        """
        wanted: dict[str, tuple[int, ...]] = {}
        steps = self.study.first_event_steps()
        for seed in seeds:
            full = self.full(seed)
            folder = self.store.trial(full.trial_id)
            if not folder.ended():
                folder.hold_forks(self.study.name)
                wanted[full.trial_id] = steps
                continue
            there = set(folder.forks())
            for keeper in self.keepers((seed,)):
                there |= set(self.store.trial(keeper.trial_id).forks())
            for candidate in candidates:
                trial = candidate.trials[seed]
                first = trial.arm.event_keys(trial.training)[0][0]
                lacking = tuple(s for s in steps if s <= first and s not in there)
                if lacking and not self.store.trial(trial.trial_id).ended():
                    self.store.trial(trial.trial_id).hold_forks(self.study.name)
                    wanted[trial.trial_id] = lacking
                    self._keep.add(candidate.number)
                    there |= set(lacking)
        return wanted

    def keepers(self, seeds: Iterable[int]) -> tuple[TrialSpec, ...]:
        """The trials of ended candidates that keep states because the full-size trial did not."""
        kept = (self.candidates[number] for number in sorted(self._keep))
        trials = [candidate.trials[seed] for candidate in kept for seed in seeds]
        return tuple(trial for trial in trials if self.record(trial) is not None)

    def release(self) -> None:
        """Remove the kept states: the search is over, and nothing can need them."""
        trials = [self.full(seed) for seed in self.study.seeds]
        trials += [t for c in self.candidates.values() for t in c.trials.values()]
        for trial in trials:
            folder = self.store.trial(trial.trial_id)
            folder.release_forks(self.study.name)
            folder.drop_forks()

    # From search to confirmation

    def begin_confirmation(self) -> None:
        """Choose the finalists from the search, by validation alone."""
        from harness.report.study.answer import finalists, summarise

        from .candidates import candidates_frame

        study = self.study
        self.release()
        summary = summarise(candidates_frame(self.content(), self.store))
        chosen = finalists(
            summary, study.goal, study.margin, study.finalists, study.minimise_state_dim
        )
        if not chosen:
            raise ValueError(f"no candidate of {study.name} completed: there is nothing to confirm")
        if self.recommendation is not None:  # valid until this confirmation has results
            self.earlier = self.finalists, self.recommendation
        self.finalists, self.state, self.recommendation = chosen, "confirming", None
        self.write()

    def end_confirmation(self) -> None:
        """Every trial of the confirmation has ended, or never will end."""
        self.state = "done"

    def content(self) -> dict[str, Any]:
        """The content of study.json."""
        finalists, recommendation = self.earlier or (self.finalists, self.recommendation)
        return {
            "study": self.study.model_dump(mode="json"),
            "command": self.command,
            "state": self.state,
            "spent": self.spent(),
            "full": {str(seed): self.full(seed).trial_id for seed in self.study.seeds},
            "candidates": [
                {
                    "number": c.number,
                    "origin": c.origin,
                    "state": c.state,
                    "why": c.why,
                    "label": c.label,
                    "setting": c.setting,
                    "trials": {str(seed): trial.trial_id for seed, trial in c.trials.items()},
                }
                for c in self.candidates.values()
            ],
            "finalists": finalists,
            "recommendation": recommendation,
        }

    def has_less(self) -> bool:
        """Whether this search was stopped before it had caught up with study.json."""
        return self.state == "searching" and len(self.candidates) < max(1, self.known)

    def write(self) -> None:
        """Write study.json, unless that would hide candidates of an earlier run."""
        if self.has_less():
            return
        self.store.suite(self.study.name).write_study(self.content())
