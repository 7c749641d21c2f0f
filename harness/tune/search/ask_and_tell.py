"""Ask for candidates and tell their results, so that a study always gives the same suggestions.

The storage keeps candidates and how they ended. A suggestion is drawn in memory (see `suggest`)
and stored in one transaction, so neither the timing of workers nor a kill can change it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL

from harness.records.store import Store
from harness.tools.notes import waiting

from ..study_spec import DECIDING, Study
from .optuna_storage import ServerLock, StorageLost, faults, held, locate, shown, storage
from .suggest import Origin, frozen, suggest

STATES = {
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "stopped",
    TrialState.FAIL: "failed",
}
CONSTRAINT = "deficit beyond the margin"
PATIENCE, LOOK_EVERY = 60.0, 1.0  # seconds for a server that is away, and between two looks

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Asked:
    """A candidate: its number in the study, the values of its knobs, and their origin."""

    number: int
    params: dict[str, Any]
    origin: Origin


@contextlib.contextmanager
def open_search(study: Study, storage_url: str | None, store: Store) -> Iterator[Search]:
    """The search of a study, new or resumed, locked against every other driver.

    Without `storage_url`, the storage is the file optuna.db of the store.

    Raises:
        Busy: another driver runs this study.
        ValueError: the storage cannot be used, or holds another study of this name.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    url = locate(storage_url, store)
    with held(url, study.name, store) as lock, storage(url) as opened:
        with faults(url):
            kept = _kept(study, opened, url)
        yield Search(study, kept, opened, url, lock)


def patient(method: Callable[Concatenate[Search, P], T]) -> Callable[Concatenate[Search, P], T]:
    """A method that may be called again after a server was lost in its middle, and is."""

    @functools.wraps(method)
    def again(self: Search, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(self, *args, **kwargs)
        except StorageLost as lost:
            give_up = time.monotonic() + PATIENCE
            with waiting(str(lost)):
                while True:
                    time.sleep(LOOK_EVERY)
                    try:
                        self.hold_again()
                        return method(self, *args, **kwargs)
                    except StorageLost:
                        if time.monotonic() > give_up:
                            raise

    return again


class Search:
    """A study's candidates in its storage; see `open_search`.

    Every method waits up to `PATIENCE` seconds for a server that is away, as while it starts again,
    and then raises StorageLost, in one line; or Busy, if another driver has the study by then.
    """

    def __init__(
        self,
        study: Study,
        kept: optuna.Study,
        opened: optuna.storages.RDBStorage,
        url: URL,
        lock: ServerLock | None,
    ) -> None:
        self.study, self.url = study, url
        self._kept, self._storage, self._lock = kept, opened, lock
        self._study_id = opened.get_study_id_from_name(study.name)

    def hold_again(self) -> None:
        """Lock the study anew after its server was lost, and the lock with it."""
        if self._lock is not None:
            self._lock.take(again=True)

    @property
    @patient
    def asked(self) -> int:
        """How many candidates the storage holds."""
        return len(self._trials())

    @patient
    def batch(self, k: int) -> list[Asked]:
        """Candidates k x batch .. (k + 1) x batch - 1, asked now or earlier.

        Raises:
            ValueError: a candidate of an earlier batch has not ended, or was never asked.
        """
        first, size = k * self.study.batch, self.study.batch
        trials = self._trials()
        with faults(self.url):
            if self._lock is not None:  # without it another driver could start
                self._lock.check()
            for number in range(len(trials), first + size):
                self._ask(number, first)
        return [_as_asked(trial) for trial in self._trials()[first : first + size]]

    @patient
    def state(self, number: int) -> str:
        """`running`, `complete`, `stopped` or `failed`."""
        return STATES[self._trial(number).state]

    def tell(self, number: int, values: Sequence[float], constraint: float | None = None) -> None:
        """A candidate has completed with these values of `study.objectives`.

        Give `constraint` if the goal is constrained; at most 0 means feasible. Telling the same
        twice does nothing. Raises ValueError if the candidate has already ended otherwise.
        """
        values = [float(value) for value in values]
        if len(values) != len(self.study.objectives) or not all(map(math.isfinite, values)):
            wanted = ", ".join(self.study.objectives)
            raise ValueError(f"candidate {number} needs finite values of {wanted}, not {values}")
        self._end(number, TrialState.COMPLETE, values, constraint, None)

    def stop(self, number: int, constraint: float, why: str) -> None:
        """A candidate was stopped before it had run on all seeds. Otherwise as `tell`."""
        if self.study.goal != "constrained":
            raise ValueError("only candidates of a constrained study can be stopped early")
        self._end(number, TrialState.PRUNED, None, constraint, why)

    def fail(self, number: int, why: str) -> None:
        """A candidate has no values because it diverged or failed. Otherwise as `tell`."""
        self._end(number, TrialState.FAIL, None, None, why)

    @patient
    def _end(
        self,
        number: int,
        state: TrialState,
        values: list[float] | None,
        constraint: float | None,
        why: str | None,
    ) -> None:
        constrained = self.study.goal == "constrained" and state != TrialState.FAIL
        if (constraint is not None) != constrained or not math.isfinite(constraint or 0.0):
            raise ValueError(f"a {self.study.goal} study was told a constraint of {constraint}")
        trial = self._trial(number)
        if trial.state.is_finished():
            if (trial.state, trial.values) == (state, values):
                return
            has, asked = (
                STATES[s] + (f" with {v}" if v else "")
                for s, v in ((trial.state, trial.values), (state, values))
            )
            raise ValueError(f"candidate {number} is {has}: it cannot end as {asked} as well")
        with faults(self.url):
            trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
            # A driver that was killed before its `tell` may have written either. They are then the
            # same, since they follow from records that never change.
            if constraint is not None and CONSTRAINT not in trial.constraints:
                optuna.Trial(self._kept, trial_id).set_constraint(CONSTRAINT, constraint)
            if trial.user_attrs.get("why") != why:
                self._storage.set_trial_user_attr(trial_id, "why", why)
            self._kept.tell(number, values, state=state)

    def _ask(self, number: int, first: int) -> None:
        """Draw a candidate and store it as running, with all its attributes."""
        trials = self._trials()
        unfinished = [t.number for t in trials[:first] if not t.state.is_finished()]
        if unfinished or len(trials) < first:
            last = unfinished[0] if unfinished else len(trials)
            raise ValueError(f"candidate {last} has not ended: {number} cannot be asked for yet")
        drawn = suggest(self.study, trials, number, first)
        setting = self.study.setting(drawn.params).model_dump(mode="json")
        attrs = {"origin": drawn.origin, "setting": setting}
        template = frozen(TrialState.RUNNING, drawn, user_attrs=attrs)
        self._storage.create_new_trial(self._study_id, template)

    def _trials(self) -> list[FrozenTrial]:
        with faults(self.url):
            return self._kept.get_trials(deepcopy=False)

    def _trial(self, number: int) -> FrozenTrial:
        trials = self._trials()
        if not 0 <= number < len(trials):
            raise ValueError(f"there is no candidate {number}; {len(trials)} were asked for")
        return trials[number]


def _as_asked(trial: FrozenTrial) -> Asked:
    return Asked(trial.number, dict(trial.params), trial.user_attrs["origin"])


def _kept(study: Study, opened: optuna.storages.RDBStorage, url: URL) -> optuna.Study:
    """The study in its storage, created if no study has this name.

    Raises:
        ValueError: another study has this name.
    """
    directions = list(study.objectives.values())
    kept = optuna.create_study(
        storage=opened,
        study_name=study.name,
        directions=directions,
        sampler=optuna.samplers.RandomSampler(seed=0),  # never used
        load_if_exists=True,
    )
    identity = kept.user_attrs.get("identity")
    begun = bool(kept.get_trials(deepcopy=False))
    same = [d.name.lower() for d in kept.directions] == directions
    if identity is None and (begun or not same):
        raise ValueError(f"{shown(url)} holds a study {study.name} that is none of the harness")
    if identity is None or not begun:  # without candidates, nothing can be mixed up
        kept.set_user_attr("identity", study.identity())
    elif identity != study.identity():
        said = _difference(json.loads(identity), json.loads(study.identity()))
        raise ValueError(f"{shown(url)} holds another study {study.name}: {said}")
    return kept


def _difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """The first field in which two identities differ, as text, and how many more differ."""
    fields = Study.model_fields.items()
    defaults = {n: f.default for n, f in fields if n in DECIDING and not f.is_required()}
    one, two = _flat(defaults | dict(there)), _flat(defaults | dict(here))
    names = sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))
    if not names:
        return "written differently"
    values = [json.dumps(flat[names[0]]) if names[0] in flat else "left out" for flat in (one, two)]
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    return f"{names[0]} is {values[0]} there and {values[1]} here{more}"


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
