"""Which trials of a plan begin where they part from another, so that no step is trained twice.

Trials of one family (see `harness.suite.fork_family`) are one run until their events differ. Taken
in the order of their first event, the latest first (`full` has none), each forks from an earlier
one at the latest step that they have in common. Together they then train every step that any of
them needs exactly once. Any such order would; this one lets forks start soonest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from harness.records.store import Store
from harness.suite import TrialSpec
from harness.suite.fork_family import common_steps, family

Fork = tuple[str, int]  # the trial that is parted from, and the step behind which


@dataclass
class Sharing:
    """Who parts from whom, and which states are kept for it.

    `forks` maps a trial that has not ended to where it begins; `keep_at` a trial to the steps
    behind which it keeps its state.
    """

    store: Store
    forks: dict[str, Fork] = field(default_factory=dict)
    keep_at: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    members: set[str] = field(default_factory=set)

    def is_there(self, trial_id: str) -> bool:
        """Whether the state that a trial begins with is kept; true for one that begins at 0."""
        fork = self.forks.get(trial_id)
        return fork is None or fork[1] in self.store.trial(fork[0]).forks()

    def ended(self, trial_id: str) -> None:
        """A trial has ended: what only it could need is removed."""
        fork = self.forks.pop(trial_id, None)
        if fork is not None:
            self.store.trial(fork[0]).drop_forks(but=self.needed(fork[0]))

    def sweep(self) -> None:
        """Remove what earlier runs of these trials kept and nothing here can need any more."""
        for trial_id in self.members:
            self.store.trial(trial_id).drop_forks(but=self.needed(trial_id))

    def needed(self, trial_id: str) -> set[int]:
        """The steps of a trial that others still begin behind."""
        return {step for parent, step in self.forks.values() if parent == trial_id}


def arrange(
    trials: Iterable[TrialSpec],
    store: Store,
    ended: Callable[[str], bool],
    keep_at: Mapping[str, Iterable[int]] | None = None,
) -> Sharing:
    """Find out what resolved trials share. `keep_at` names further states that are to be kept."""
    sharing = Sharing(store)
    for trial_id, steps in (keep_at or {}).items():
        sharing.keep_at[trial_id] |= set(steps)
    families: dict[str, dict[str, TrialSpec]] = defaultdict(dict)
    for trial in trials:
        key = family(trial)
        if key is not None:
            families[key][trial.trial_id] = trial
    for relatives in families.values():
        sharing.members |= relatives.keys()
        _arrange_family(relatives, sharing, ended)
    return sharing


def _arrange_family(
    relatives: Mapping[str, TrialSpec], sharing: Sharing, ended: Callable[[str], bool]
) -> None:
    over = {i: sharing.store.trial(i).forks() for i in relatives if ended(i)}
    earlier: list[str] = []
    open_ones = (i for i in relatives if i not in over)
    for trial_id in sorted(open_ones, key=lambda i: -_first_event(relatives[i])):
        best: Fork | None = None
        for other in (*over, *earlier):
            step = common_steps(relatives[other], relatives[trial_id])
            if other in over:  # it keeps nothing any more that it did not keep then
                step = max((kept for kept in over[other] if kept <= step), default=0)
            if step > (best[1] if best else 0):
                best = other, step
        if best is not None:
            sharing.forks[trial_id] = best
            if best[0] not in over:
                sharing.keep_at[best[0]].add(best[1])
        earlier.append(trial_id)


def _first_event(trial: TrialSpec) -> int:
    steps = trial.training.steps
    return next((step for step, _ in trial.arm.event_keys(trial.training)), steps)
