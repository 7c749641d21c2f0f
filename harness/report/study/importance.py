"""How much each knob of the timing matters: fANOVA over the complete candidates of a study.

A random forest is fitted to the candidates' means. The variance of its predictions over the box
spanned by the candidates is divided (Hutter, Hoos, Leyton-Brown, ICML 2014): a share for each knob
alone, and the rest for interactions. A search samples good regions more densely, so the forest is
most accurate there.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from harness.report.study.answer import SETTING

FEWEST = 8  # complete candidates
KNOBS = ("start", "length", "count", "tau")
TOGETHER = "knobs together"
TARGETS = {"metric": "difference", "cost": "cost"}
TREES, RESAMPLED_TREES = 64, 16  # a resample is one of many, so a small forest is enough
LOW, HIGH = 5, 95  # percentiles over resamples


class Importance(NamedTuple):
    """`table` has target ("metric" or "cost"), knob, value, low, high: shares of the variance.

    It is None if there is none; `reason` then says why. `candidates` is the number used.
    """

    table: pd.DataFrame | None
    reason: str | None
    candidates: int


def importance(
    summary: pd.DataFrame, log_tau: bool = True, resamples: int = 20, seed: int = 0
) -> Importance:
    """Shares of start, length, count, tau and the options that vary, for the metric and the cost.

    `low` and `high` are the 5th and 95th percentile over `resamples` bootstraps of the candidates.
    A knob that never varied has no line; a target that never varied has NaN. With `log_tau`, tau
    is measured by its logarithm, as in the search. Takes about 15 s for 300 candidates.
    """
    complete = summary[(summary.state == "complete")]
    if len(complete):
        complete = complete[complete.difference.notna() & complete.cost.notna()]
        complete = complete.drop_duplicates(SETTING)
    if len(complete) < FEWEST:
        why = f"{len(complete)} complete candidates are too few; {FEWEST} are needed"
        return Importance(None, why, len(complete))
    knobs = _knobs(complete, log_tau)
    if not knobs:
        return Importance(None, "no knob varied among the complete candidates", len(complete))
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(complete), size=(resamples, len(complete)))
    lines = []
    for target, column in TARGETS.items():
        values = complete[column].to_numpy(dtype=float)
        shares = _shares(knobs, values, TREES, seed)
        again = pd.DataFrame(
            [
                _shares({k: v[draw] for k, v in knobs.items()}, values[draw], RESAMPLED_TREES, seed)
                for draw in draws
            ]
        )
        for knob, share in shares.items():
            spread = again[knob].dropna()
            low, high = np.percentile(spread, [LOW, HIGH]) if len(spread) else (np.nan, np.nan)
            lines.append({"target": target, "knob": knob, "value": share, "low": low, "high": high})
    return Importance(pd.DataFrame(lines), None, len(complete))


def _knobs(complete: pd.DataFrame, log_tau: bool) -> dict[str, np.ndarray]:
    """The values (candidates,) of each knob that varies; options are strings."""
    columns: dict[str, np.ndarray] = {}
    for name in KNOBS:
        values = complete[name].to_numpy(dtype=float)
        columns[name] = np.log(values) if name == "tau" and log_tau and values.min() > 0 else values
    options: list[Mapping[str, Any]] = [json.loads(text) for text in complete.options]
    for name in sorted({name for option in options for name in option}):
        columns[name] = np.array([json.dumps(option.get(name)) for option in options])
    return {name: values for name, values in columns.items() if len(set(values)) > 1}


def _shares(
    knobs: Mapping[str, np.ndarray], values: np.ndarray, trees: int, seed: int
) -> dict[str, float]:
    """The share of each knob alone and of their interactions; NaN if `values` do not vary."""
    from optuna.importance import FanovaImportanceEvaluator

    names = [name for name in knobs if len(set(knobs[name])) > 1]
    if np.ptp(values) < 1e-12 or not names:
        return {name: float("nan") for name in [*knobs, TOGETHER]}
    study = _study({name: knobs[name] for name in names}, values)
    try:
        found = FanovaImportanceEvaluator(n_trees=trees, seed=seed).evaluate(study)
    except RuntimeError:  # no tree found a split
        return {name: float("nan") for name in [*knobs, TOGETHER]}
    shares = {name: float(found.get(name, 0.0)) for name in knobs}
    return {**shares, TOGETHER: max(0.0, 1.0 - sum(shares.values()))}


def _study(knobs: Mapping[str, np.ndarray], values: np.ndarray) -> Any:
    """A study in memory that holds the candidates as complete trials."""
    import optuna

    distributions: dict[str, optuna.distributions.BaseDistribution] = {
        name: optuna.distributions.FloatDistribution(float(column.min()), float(column.max()))
        if column.dtype.kind == "f"
        else optuna.distributions.CategoricalDistribution(sorted(set(column.tolist())))
        for name, column in knobs.items()
    }
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study()
        study.add_trials(
            [
                optuna.trial.create_trial(
                    params={name: column[i].item() for name, column in knobs.items()},
                    distributions=distributions,
                    value=float(value),
                )
                for i, value in enumerate(values)
            ]
        )
    finally:
        optuna.logging.set_verbosity(before)
    return study
