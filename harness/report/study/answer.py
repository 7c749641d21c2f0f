"""The findings of a study: its table of candidates, the front, the finalists, the recommendation.

Pure functions of tables. The search is scored by validation on its own seeds, where the best of
many look better than they are, so `recommend` uses only trials on seeds that it never saw.
Differences are to the full-size trial of the same seed, in the metric's own unit (accuracy between
0 and 1), and positive if the candidate is better, whatever the metric's direction.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from harness.report.statistics.intervals import (
    NO_WIDTH,
    Interval,
    direction,
    mean_interval,
    paired_difference,
)
from harness.report.study.window import window_tests

SETTING = [
    "start",
    "end",
    "count",
    "tau",
    "options",
]  # equal for equal runs
ROUNDING = 1e-9  # a smaller violation of the margin is rounding
SURE = 0.95  # confidence of the one-sided bound
MOST_SEEDS = 1000  # more are not suggested


def summarise(candidates: pd.DataFrame) -> pd.DataFrame:
    """One row per candidate, by number, from its rows per seed.

    `seeds` counts the seeds that finished both here and at full size; all means are over them.
    `difference` is paired by seed, with its 95 % t interval (`difference_low`, `difference_high`:
    NaN for one seed). `cost` is training FLOPs relative to full size, `length` that of the window,
    and `paper` whether it was enqueued with the paper's window. A stopped candidate keeps its
    state; its means are over its first seeds only.
    """
    rows = [_candidate(group) for _, group in candidates.groupby("number", sort=True)]
    return pd.DataFrame(rows, columns=None if rows else ["number", "state"])


def pareto_front(summary: pd.DataFrame, minimise_state_dim: bool = False) -> list[int]:
    """Numbers of the complete candidates that no other beats in metric and cost, cheapest first.

    With `minimise_state_dim`, mean state dimension counts too. Leaves out candidates with a
    diverged seed and repeated settings.
    """
    ranked = _eligible(summary)
    columns = [-ranked.difference, ranked.cost]
    if minimise_state_dim:
        columns.append(ranked.state_dim_mean)
    kept = ranked[_not_dominated(np.column_stack(columns))]
    return [int(number) for number in kept.number]


def finalists(
    summary: pd.DataFrame,
    goal: str,
    margin: float | None,
    k: int,
    minimise_state_dim: bool = False,
) -> list[int]:
    """Numbers of at most `k` complete candidates to run again on fresh seeds, preferred first.

    constrained: of those whose mean difference is within `margin`, the cheapest; the cheapest that
    leaves 1/k of the margin to spare; that leaves 2/k; and so on, then in order of cost. On fresh
    seeds the bound must clear the margin, not just the mean, and the k cheapest are the likeliest
    to be within it by luck. If none is within the margin, those nearest to it.
    pareto: the front from the best metric to the cheapest, thinned evenly to k.
    """
    if goal == "pareto":
        front = pareto_front(summary, minimise_state_dim)[::-1]
        places = np.linspace(0, len(front) - 1, min(k, len(front))).round().astype(int)
        return [front[place] for place in places]
    assert margin is not None
    ranked = _eligible(summary)
    feasible = ranked[ranked.difference >= -margin - ROUNDING]
    if feasible.empty:
        return [int(n) for n in ranked.sort_values("difference", ascending=False).number[:k]]
    chosen: list[int] = []
    for step in range(k):
        spare = feasible[feasible.difference >= -margin * (1 - step / k) - ROUNDING]
        chosen += [int(n) for n in spare.number if n not in chosen][:1]
    chosen += [int(n) for n in feasible.number if n not in chosen][: k - len(chosen)]
    return [int(n) for n in feasible.number if n in chosen]


def recommend(
    confirm_trials: pd.DataFrame,
    goal: str,
    margin: float | None,
    labels: Sequence[str],
    minimise_state_dim: bool = False,
) -> dict[str, Any]:
    """The recommendation as JSON, from the trials on confirmation seeds alone.

    `confirm_trials` is the suite's table of trials. The competing rows, `labels`, are measured
    against the row `full` on validation, paired by seed. `bound` is the one-sided 95 % lower t
    bound of the mean difference; `bound_adjusted` is the same at 1 - 0.05 / len(labels), so that
    all bounds hold at once. constrained: `confirmed` are the labels whose bound is at least
    -`margin`, `recommended` the cheapest of them. pareto: `confirmed` are those that no other label
    beats in both means. A row with a diverged seed or fewer than two seeds is never confirmed.
    Undefined numbers are None. `window` holds the tests of the paper's claim
    (`window.window_tests`).

    Raises a one-line ValueError if there is no trial of the row `full`.
    """
    full = confirm_trials[confirm_trials.label == "full"]
    if full.empty:
        raise ValueError("the confirmation has no ended full-size trial to compare with")
    every = {label: confirm_trials[confirm_trials.label == label] for label in labels}
    rows = [_confirmed_row(label, t, full, len(labels), margin) for label, t in every.items()]
    if goal == "constrained":
        assert margin is not None
        passing = [row for row in rows if _clears(row, margin)]
    else:
        passing = _undominated_rows(rows, minimise_state_dim)
    cheapest = min(passing, key=lambda row: (row["cost"], -row["difference"]), default=None)
    recommended = cheapest["label"] if cheapest and goal == "constrained" else None
    known = full.dropna(subset=["metric"]).iloc[0] if full.metric.notna().any() else None
    return {
        "goal": goal,
        "margin": margin,
        "metric": "metric" if known is None else str(known.metric),
        "higher_is_better": True if known is None else bool(known.higher_is_better),
        "seeds": sorted({int(seed) for seed in full.seed}),
        "confirmed": [row["label"] for row in sorted(passing, key=lambda row: row["cost"])],
        "recommended": recommended,
        "rows": rows,
        "window": window_tests(confirm_trials, rows, recommended, margin),
    }


def _candidate(group: pd.DataFrame) -> dict[str, Any]:
    first = group.iloc[0]
    group = group.sort_values("seed")
    done = group[(group.status == "completed") & _finite(group.val_metric, group.val_full)]
    known = group.higher_is_better.dropna()
    higher = bool(known.iloc[0]) if len(known) else True
    paired = paired_difference(_floats(done.val_metric), _floats(done.val_full), 0.95, higher)
    metrics = group.metric.dropna()
    return {
        "number": int(first.number),
        "label": str(first.label),
        "origin": str(first.origin),
        "state": str(first.state),
        "why": first.why if isinstance(first.why, str) and first.why else None,
        "start": float(first.start),
        "end": float(first.end),
        "length": round(float(first.end - first.start), 6),
        "count": int(first["count"]),
        "tau": float(first.tau),
        "options": first.options if isinstance(first.options, str) else json.dumps({}),
        "paper": first.origin == "enqueued" and _is_paper_window(first.start, first.end),
        "metric": str(metrics.iloc[0]) if len(metrics) else "metric",
        "higher_is_better": higher,
        "seeds": len(done),
        "diverged": int((group.status == "diverged").sum()),
        "val_mean": _mean(done.val_metric),
        "full_mean": _mean(done.val_full),
        "difference": paired.mean,
        "difference_low": paired.low,
        "difference_high": paired.high,
        "cost": _ratio(_mean(done.train_flops), _mean(done.flops_full)),
        "state_dim_mean": _mean(done.state_dim_mean),
        "seconds": _mean(done.seconds),
        "flops_spent": float(group.flops_spent.sum()),
        "seconds_spent": float(group.seconds_spent.sum()),
    }


def _is_paper_window(start: float, end: float) -> bool:
    return math.isclose(start, 0.0, abs_tol=1e-9) and math.isclose(end, 0.1)


def _eligible(summary: pd.DataFrame) -> pd.DataFrame:
    """Complete candidates with a difference and a cost, each setting once, cheapest first."""
    found = summary[summary.state == "complete"]
    if found.empty:
        return found.reindex(columns=["number", "difference", "cost", "state_dim_mean"])
    found = found[(found.diverged == 0) & _finite(found.difference, found.cost)]
    found = found.sort_values("number").drop_duplicates(SETTING)
    return found.sort_values(["cost", "difference"], ascending=[True, False], kind="stable")


def _not_dominated(points: np.ndarray) -> np.ndarray:
    """For each row of `points` (n, objectives), all minimised: whether no other row beats it."""
    no_worse = (points[:, None] <= points[None]).all(axis=2)
    better = (points[:, None] < points[None]).any(axis=2)
    return np.logical_not((no_worse & better).any(axis=0))


def _confirmed_row(
    label: str, trials: pd.DataFrame, full: pd.DataFrame, tests: int, margin: float | None
) -> dict[str, Any]:
    ours, theirs = _finished(trials), _finished(full)
    seeds = ours.index.intersection(theirs.index)
    known = full.higher_is_better.dropna()
    sign = direction(bool(known.iloc[0]) if len(known) else True)
    gains = sign * (_floats(ours.val_metric[seeds]) - _floats(theirs.val_metric[seeds]))
    two_sided = mean_interval(gains)
    certain = bool((trials.status == "completed").all() and (full.status == "completed").all())
    certain = certain and two_sided.high - two_sided.low > NO_WIDTH
    bound = _lower_bound(gains, SURE)
    test = mean_interval(_floats(ours.test_metric[_finite(ours.test_metric)]))
    return {
        "label": label,
        "seeds": len(seeds),
        "diverged": int((trials.status == "diverged").sum()),
        "difference": _json(two_sided.mean),
        **_bounds("", two_sided, certain),
        "bound": _json(bound) if certain else None,
        "bound_adjusted": _json(_lower_bound(gains, 1 - (1 - SURE) / tests)) if certain else None,
        "seeds_needed": _seeds_needed(gains, margin) if certain else None,
        "cost": _json(
            _ratio(_mean(ours.flops_method[seeds]), _mean(theirs.flops_method[seeds]))
        ),
        "states": _json(_mean(ours.state_dim_mean)),
        "test": _json(test.mean),
        **_bounds("test_", test, certain),
    }  # fmt: skip


def _bounds(prefix: str, interval: Interval, certain: bool) -> dict[str, float | None]:
    low, high = (interval.low, interval.high) if certain else (math.nan, math.nan)
    return {f"{prefix}low": _json(low), f"{prefix}high": _json(high)}


def _clears(row: dict[str, Any], margin: float) -> bool:
    known = row["bound"] is not None and row["cost"] is not None
    return known and row["bound"] >= -margin - ROUNDING


def _undominated_rows(rows: list[dict[str, Any]], minimise_state_dim: bool) -> list[dict[str, Any]]:
    certain = [row for row in rows if row["bound"] is not None and row["cost"] is not None]
    if not certain:
        return []
    objectives = [
        [-row["difference"], row["cost"], *([row["states"]] if minimise_state_dim else [])]
        for row in certain
    ]
    kept = _not_dominated(np.array(objectives, dtype=float))
    return [row for row, keep in zip(certain, kept, strict=True) if keep]


def _lower_bound(gains: np.ndarray, sure: float) -> float:
    """One-sided t bound: with confidence `sure`, the mean of `gains` is not below it."""
    return mean_interval(gains, 2 * sure - 1).low


def _seeds_needed(gains: np.ndarray, margin: float | None) -> int | None:
    """How many seeds would put the bound within the margin if mean and spread stayed the same."""
    mean, spread = float(gains.mean()), float(gains.std(ddof=1))
    if margin is None or mean <= -margin:
        return None
    count = np.arange(2, MOST_SEEDS)
    bounds = mean - stats.t.ppf(SURE, count - 1) * spread / np.sqrt(count)
    enough = count[bounds >= -margin]
    return int(enough[0]) if len(enough) else None


def _finished(trials: pd.DataFrame) -> pd.DataFrame:
    done = trials[(trials.status == "completed") & _finite(trials.val_metric)]
    return done.drop_duplicates("seed").set_index("seed").sort_index()


def _finite(*columns: pd.Series) -> pd.Series:
    found = pd.Series(True, index=columns[0].index)
    for column in columns:
        found &= np.isfinite(pd.to_numeric(column, errors="coerce").astype(float))
    return found


def _floats(column: pd.Series) -> np.ndarray:
    return column.to_numpy(dtype=float)


def _mean(column: pd.Series) -> float:
    return float(column.astype(float).mean())


def _ratio(ours: float, theirs: float) -> float:
    return ours / theirs if theirs > 0 else math.nan


def _json(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None
