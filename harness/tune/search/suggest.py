"""What to try next: a pure function of the study, the results of earlier batches, and a number.

Optuna draws each suggestion in memory, from a study rebuilt for it. That study holds the candidates
of earlier batches with their results, and the earlier candidates of the same batch as running,
whatever has become of them since. The sampler is new and seeded by the candidate's number. Many
suggestions round to the same grid point; one that was asked for before is drawn again.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from ..space import Floats, Ints
from ..study_spec import Study

Origin = Literal["enqueued", "sobol", "sampler"]
Knob = Floats | Ints | tuple[Any, ...]

# NSGA-II breeds from whole generations, and stores a candidate's generation as an attribute.
GENERATION = NSGAIISampler._get_generation_key()

ATTEMPTS = 20  # draws before a repeated candidate is accepted


@dataclass(frozen=True)
class Drawn:
    """Values of the knobs, their distributions, and the attributes that the sampler needs later."""

    params: dict[str, Any]
    distributions: dict[str, BaseDistribution]
    attrs: dict[str, Any]
    origin: Origin = "sampler"


def suggest(study: Study, trials: Sequence[FrozenTrial], number: int, first: int) -> Drawn:
    """Candidate `number` of the batch that begins at `first`; `trials` are all earlier ones."""
    distributions = {name: _distribution(knob) for name, knob in study.space.knobs().items()}
    planned = [*study.enqueued(), *sobol(study)]
    if number < len(planned):
        origin: Origin = "enqueued" if number < len(study.enqueue) else "sobol"
        # All of these form the first generation.
        return Drawn(planned[number], distributions, {GENERATION: 0}, origin)
    memory = optuna.storages.InMemoryStorage()
    shadow = optuna.create_study(storage=memory, directions=list(study.objectives.values()))
    shadow_id = memory.get_study_id_from_name(shadow.study_name)
    for trial in trials[:number]:
        memory.create_new_trial(shadow_id, _seen(trial, first))
    known = [study.setting(trial.params) for trial in trials[:number]]
    for attempt in range(ATTEMPTS):
        shadow.sampler = _sampler(study, f"{number}/{attempt}")
        asked = shadow.ask(distributions).number
        drawn = shadow.get_trials(deepcopy=False)[asked]
        if study.setting(drawn.params) not in known:
            break
        shadow.tell(asked, state=TrialState.FAIL)  # samplers ignore failed trials
    return Drawn(drawn.params, distributions, _attrs(drawn))


def frozen(state: TrialState, of: Drawn | FrozenTrial, **ends: Any) -> FrozenTrial:
    """A trial to store. Optuna's own function refuses values outside their range, which enqueued
    settings may have."""
    attrs = of.attrs if isinstance(of, Drawn) else _attrs(of)
    made = create_trial(state=state, system_attrs=attrs, **ends)
    made.params, made.distributions = of.params, of.distributions
    return made


def _seen(trial: FrozenTrial, first: int) -> FrozenTrial:
    """An earlier candidate as the batch that begins at `first` sees it."""
    if trial.number >= first:
        return frozen(TrialState.RUNNING, trial)
    return frozen(trial.state, trial, values=trial.values, constraints=trial.constraints)


def _attrs(trial: FrozenTrial) -> dict[str, Any]:
    return {k: v for k, v in trial.system_attrs.items() if k == GENERATION}


def sobol(study: Study) -> list[dict[str, Any]]:
    """`startup` points of a scrambled Sobol sequence, as values of the knobs."""
    if study.startup == 0:
        return []
    from scipy.stats.qmc import Sobol

    knobs = study.space.knobs()
    rng = np.random.default_rng(_seed(study, "sobol"))
    power = math.ceil(
        math.log2(study.startup)
    )  # Sobol points come in powers of two; the first ones are used
    points = Sobol(len(knobs), rng=rng).random_base2(power)[: study.startup]
    return [
        {name: _at(knob, float(u)) for (name, knob), u in zip(knobs.items(), point, strict=True)}
        for point in points
    ]


def _at(knob: Knob, u: float) -> Any:
    """The value of a knob at a fraction u, 0 <= u < 1, of its range."""
    if isinstance(knob, Ints):
        return knob.low + int(u * (knob.high - knob.low + 1))
    if isinstance(knob, Floats):
        if knob.log:
            return float(min(knob.low * (knob.high / knob.low) ** u, knob.high))
        return knob.low + u * (knob.high - knob.low)
    return knob[int(u * len(knob))]


def _distribution(knob: Knob) -> BaseDistribution:
    if isinstance(knob, Ints):
        return IntDistribution(knob.low, knob.high)
    if isinstance(knob, Floats):
        return FloatDistribution(knob.low, knob.high, log=knob.log)
    return CategoricalDistribution(knob)


def _sampler(study: Study, draw: str) -> BaseSampler:
    """A new sampler for one draw. All it knows is what the study holds."""
    seed = _seed(study, draw)
    if study.sampler == "nsga2":
        # The first generation is the enqueued and the Sobol points.
        size = max(4, len(study.enqueue) + study.startup)
        return NSGAIISampler(population_size=size, seed=seed)
    return TPESampler(multivariate=True, n_startup_trials=1, seed=seed)


def _seed(study: Study, what: str) -> int:
    digest = hashlib.sha256(f"{study.sampler_seed}/{what}".encode()).digest()
    return int.from_bytes(digest[:4], "big")
