"""The course of a study: which trials run when, and what follows from them.

`StudyStages.stages` is the whole story. Each stage is a suite. When its trials have ended, the
search is told how, in the order of the candidates, and the next stage follows from that
alone. So neither the timing of workers nor a kill can change what a study does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.arms import Arm
from harness.suite import (
    Comparison,
    FullSpec,
    PostHocSpec,
    SmallSpec,
    Suite,
    TrialSpec,
)

from .ledger import Candidate, Ledger
from .margins import check_margin, weakness
from .search.ask_and_tell import Search
from .study_spec import Study

PAPER_WINDOW = {"start": 0.0, "end": 0.1}


class Halted(Exception):
    """A trial has no result because its machine failed. Running the study again resumes it."""


@dataclass(frozen=True)
class Stage:
    """Trials to run before the next decision, and the states to keep until then."""

    suite: Suite
    keep_at: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    parents: tuple[TrialSpec, ...] = ()  # ended trials of earlier stages to fork from


class StudyStages:
    """One study against its search and its records."""

    def __init__(self, study: Study, search: Search, ledger: Ledger):
        self.study, self.search, self.ledger = study, search, ledger

    def stages(self) -> Iterator[Stage]:
        """The full model, batches of candidates while the budget lasts, the confirmation.

        Raises:
            ValueError: the seeds cannot resolve the margin.
            Halted: a trial did not end on its machine.
        """
        study, ledger = self.study, self.ledger
        yield self._stage([], study.seeds)
        try:
            check_margin(study, ledger.metrics({s: ledger.full(s) for s in study.seeds}))
            ledger.check_budget()
        except ValueError:
            ledger.release()
            raise
        k = 0
        while ledger.affords(k):
            yield from self._batch(k)
            k += 1
        ledger.begin_confirmation()
        yield Stage(confirmation(study, ledger.finalists, ledger.arms()))
        ledger.end_confirmation()

    def ahead(self) -> int:
        """How many trials are expected after the current stage."""
        if self.ledger.state != "searching" or self.study.budget.candidates is None:
            return 0
        left = self.study.budget.candidates - len(self.ledger.candidates)
        return left * len(self.study.seeds) + len(self.study.confirm_seeds) * 4

    def _batch(self, k: int) -> Iterator[Stage]:
        study, ledger = self.study, self.ledger
        batch = [ledger.enter(asked, study.arm(asked.params)) for asked in self.search.batch(k)]
        first = study.seeds[: study.first_seeds]
        running = self._running(batch)
        if running and study.goal == "constrained" and len(first) < len(study.seeds):
            yield self._stage(running, first)
            for candidate in running:
                self._stop_if_weak(candidate, first)
            running = self._running(batch)
        if running:
            yield self._stage(running, study.seeds)
        for candidate in batch:
            self._tell(candidate)
        ledger.write()

    def _stage(self, candidates: list[Candidate], seeds: tuple[int, ...]) -> Stage:
        arms: dict[str, Any] = {"full": FullSpec()}
        arms |= {c.label: c.arm for c in candidates}
        suite = suite_of(self.study, self.study.name, arms, seeds)
        keep_at = self.ledger.hold(candidates, seeds)
        return Stage(suite, keep_at, self.ledger.keepers(seeds))

    def _running(self, batch: list[Candidate]) -> list[Candidate]:
        return [c for c in batch if self.search.state(c.number) == "running"]

    def _stop_if_weak(self, candidate: Candidate, first: tuple[int, ...]) -> None:
        seen = self.ledger.metrics({s: candidate.trials[s] for s in first})
        full = self.ledger.metrics({s: self.ledger.full(s) for s in self.study.seeds})
        if len(seen) < len(first):
            return  # one diverged: `_tell` records the candidate as failed
        found = weakness(self.study, seen, full)
        if found is not None:
            deficit, why = found
            self.search.stop(candidate.number, deficit, why)
            self.ledger.end(candidate, "stopped", why)

    def _tell(self, candidate: Candidate) -> None:
        number, ledger = candidate.number, self.ledger
        state = self.search.state(number)
        if state == "stopped":
            ledger.end(candidate, "stopped", self._why(candidate))
            return
        broken = [s for s, t in candidate.trials.items() if ledger.status(t) != "completed"]
        missing = [s for s in broken if ledger.status(candidate.trials[s]) is None]
        if missing:
            raise Halted(f"{candidate.label}, seed {missing[0]}, has not ended")
        if broken:
            why = f"{ledger.status(candidate.trials[broken[0]])} on seed {broken[0]}"
            self.search.fail(number, why)
            ledger.end(candidate, "failed", why)
            return
        values, constraint = ledger.score(candidate)
        self.search.tell(number, values, constraint)
        ledger.end(candidate, "complete", None)

    def _why(self, candidate: Candidate) -> str:
        first = self.study.seeds[: self.study.first_seeds]
        seen = self.ledger.metrics({s: candidate.trials[s] for s in first})
        full = self.ledger.metrics({s: self.ledger.full(s) for s in self.study.seeds})
        found = weakness(self.study, seen, full)
        return found[1] if found else "stopped"


def suite_of(study: Study, name: str, arms: Mapping[str, Any], seeds: tuple[int, ...]) -> Suite:
    """The suite of some arms on the study's task, model and training."""
    base = study.base
    comparison = Comparison(
        task=base.task, model=base.model, training=base.training, arms=dict(arms), seeds=seeds
    )
    return Suite(name=name, description=study.description, comparisons=(comparison,))


def confirmation(study: Study, finalists: list[int], arms: Mapping[int, Arm]) -> Suite:
    """Finalists and the paper's setting on fresh seeds, next to full size, small and post_hoc.

    `window cN` is finalist N in the paper's window, so that only the window differs.
    """
    rows: dict[str, Any] = {"full": FullSpec()}
    for label, arm in competing(study, finalists, arms).items():
        rows[label] = arm
        if label != "paper" and (twin := in_paper_window(study, arm)) is not None:
            rows[f"window {label}"] = twin
        rows[f"post_hoc {label}"] = PostHocSpec(match="seed", to=arm)
        rows[f"small {label}"] = SmallSpec(match="seed", to=arm)
    return suite_of(study, confirmation_name(study.name), rows, study.confirm_seeds)


def in_paper_window(study: Study, arm: Arm) -> Arm | None:
    """The arm with the paper's window; None if its truncations would coincide there."""
    twin = type(arm).model_validate({**arm.model_dump(), **PAPER_WINDOW})
    try:
        twin.events(study.base.training.steps)
    except ValueError:
        return None
    return twin


def competing(study: Study, finalists: list[int], arms: Mapping[int, Arm]) -> dict[str, Arm]:
    """The rows that a recommendation is chosen from: the paper's setting and the finalists. A
    finalist that equals the paper's setting appears once."""
    found: dict[str, Arm] = {}
    if study.enqueue:
        found["paper"] = study.arm_of(study.enqueue[0])
    found |= {f"c{n}": arms[n] for n in finalists if arms[n] not in found.values()}
    return found


def confirmation_name(name: str) -> str:
    """The name of the suite that runs a study's finalists on fresh seeds."""
    return f"{name}.confirm"


__all__ = [
    "Halted",
    "Stage",
    "StudyStages",
    "competing",
    "confirmation",
    "confirmation_name",
    "suite_of",
]
