"""Which trials of a plan fork from another, so that no step is trained twice.

Trials of one family (see `harness.suite.fork_family`) are the same run until their events differ.
They are sorted by their first event, the latest first (`full` has none), and each forks from an
earlier one at the last step that both share. Together they train every step that any of them needs
exactly once. Any order would do that; this one lets forks start soonest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from harness.records.store import Store
from harness.suite import TrialSpec
from harness.suite.fork_family import common_steps, family

Fork = tuple[str, int]  # the trial it forks from, and the step after which


@dataclass
class ForkPlan:
    """Which trial forks from which, and which states are kept for that.

    `forks` maps a trial that has not ended to the fork where it begins. `keep_at` maps a trial to
    the steps after which it keeps its state.
    """

    store: Store
    kept: Callable[[str], Collection[int]]  # after which steps a trial has kept its state
    forks: dict[str, Fork] = field(default_factory=dict)
    keep_at: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    members: set[str] = field(default_factory=set)

    def is_there(self, trial_id: str) -> bool:
        """Whether the state that a trial begins from is there; true for one that begins at 0."""
        fork = self.forks.get(trial_id)
        return fork is None or fork[1] in self.store.trial(fork[0]).forks()

    def ended(self, trial_id: str) -> None:
        """A trial has ended: remove the states that only it needed."""
        fork = self.forks.pop(trial_id, None)
        if fork is not None:
            self.store.trial(fork[0]).drop_forks(but=self.needed(fork[0]))

    def sweep(self) -> None:
        """Remove states that earlier runs of these trials kept and that nothing here can need."""
        needed: dict[str, set[int]] = defaultdict(set)
        for parent, step in self.forks.values():
            needed[parent].add(step)
        for trial_id in self.members:
            if self.kept(trial_id):
                self.store.trial(trial_id).drop_forks(but=needed[trial_id])

    def needed(self, trial_id: str) -> set[int]:
        """The steps of a trial after which others still fork."""
        return {step for parent, step in self.forks.values() if parent == trial_id}


def arrange_forks(
    trials: Iterable[TrialSpec],
    store: Store,
    ended: Callable[[str], bool],
    keep_at: Mapping[str, Iterable[int]] | None = None,
    kept: Callable[[str], Collection[int]] | None = None,
) -> ForkPlan:
    """Decide which resolved trials fork from which. `keep_at` names further states to keep; `kept`
    tells which are there."""
    fork_plan = ForkPlan(store, kept or (lambda trial_id: store.trial(trial_id).forks()))
    for trial_id, steps in (keep_at or {}).items():
        fork_plan.keep_at[trial_id] |= set(steps)
    families: dict[str, dict[str, TrialSpec]] = defaultdict(dict)
    for trial in trials:
        key = family(trial)
        if key is not None:
            families[key][trial.trial_id] = trial
    for relatives in families.values():
        fork_plan.members |= relatives.keys()
        _fork_family(relatives, fork_plan, ended)
    return fork_plan


def _fork_family(
    relatives: Mapping[str, TrialSpec], fork_plan: ForkPlan, ended: Callable[[str], bool]
) -> None:
    open_ones = [i for i in relatives if not ended(i)]
    if not open_ones:
        return
    waiting = set(open_ones)
    over = {i: fork_plan.kept(i) for i in relatives if i not in waiting}
    earlier: list[str] = []
    for trial_id in sorted(open_ones, key=lambda i: -_first_event(relatives[i])):
        best: Fork | None = None
        for other in (*over, *earlier):
            step = common_steps(relatives[other], relatives[trial_id])
            if other in over:  # it has ended, and offers only the states that it kept
                step = max((kept for kept in over[other] if kept <= step), default=0)
            if step > (best[1] if best else 0):
                best = other, step
        if best is not None:
            fork_plan.forks[trial_id] = best
            if best[0] not in over:
                fork_plan.keep_at[best[0]].add(best[1])
        earlier.append(trial_id)


def _first_event(trial: TrialSpec) -> int:
    steps = trial.training.steps
    return next((step for step, _ in trial.arm.event_keys(trial.training)), steps)
