"""Studies made up: a model of what timing costs and loses, with noise from a fixed generator."""

import json

import numpy as np
import pandas as pd

from harness.records import schemas
from harness.report.comparison.compare import compare

FULL_FLOPS = 7e10
STEPS = 1500


def candidate_row(number, seed, difference=0.0, cost=0.5, **changes):
    """One candidate on one seed; full size has 0.90, 0.91, ... by seed."""
    full = 0.90 + 0.01 * seed
    row = {
        "number": number, "origin": "sampler", "state": "complete", "why": None,
        "start": 0.1, "end": 0.3, "count": 4, "tau": 0.05, "options": "{}", "label": f"c{number}",
        "seed": seed, "trial_id": f"c{number}/{seed}", "status": "completed", "metric": "accuracy",
        "higher_is_better": True, "val_metric": full + difference, "val_full": full,
        "train_flops": FULL_FLOPS * cost, "flops_full": FULL_FLOPS,
        "flops_spent": FULL_FLOPS * cost * 0.7, "seconds": 8.0, "seconds_spent": 6.0,
        "state_dim_mean": 8.0,
    }  # fmt: skip
    assert set(changes) <= set(row), changes
    return row | changes


def pairs(*candidates, seeds=3):
    """Candidates from (difference, cost) pairs or dicts of columns, numbered from 0, all seeds.

    Their starts differ, so that no two have the same setting.
    """
    rows = []
    for number, given in enumerate(candidates):
        given = (
            given
            if isinstance(given, dict)
            else dict(zip(["difference", "cost"], given, strict=True))
        )
        given = {"start": round(0.01 * number, 6), **given}
        rows += [candidate_row(number, seed, **given) for seed in range(seeds)]
    return pd.DataFrame(rows)


def effect(start, end, count, tau):
    """(difference to full, cost, states): later is dearer and loses less, harder tau is cheaper."""
    states = 64 * np.exp(-2.2 * np.sqrt(tau * 10) * (count / 4) ** 0.3)
    cost = start + (end - start) * 0.6 + (1 - end) * (0.15 + 0.85 * states / 64)
    loss = 0.003 + (0.02 + 0.09 * (tau * 5) ** 1.2) * np.exp(-4 * (start + (end - start) / 2))
    return -loss, float(cost), float(states)


def searched(count=48, seeds=3, stopped=True, seed=0, higher=True):
    """A search: two enqueued settings of the paper's, Sobol points, then points near the good."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        start, length, events = rng.uniform(0.0, 0.5), rng.uniform(0.04, 0.4), rng.integers(1, 9)
        tau = float(f"{np.exp(rng.uniform(np.log(0.005), np.log(0.3))):.3g}")
        origin = "enqueued" if number < 2 else "sobol" if number < 10 else "sampler"
        if number < 2:
            start, length, events, tau = 0.0, 0.1, 4, [0.05, 0.15][number]
        start, end = round(start, 2), round(min(start + length, 1.0), 2)
        mean, cost, states = effect(start, end, events, tau)
        weak = stopped and mean < -0.03 and number >= 2
        sign = 1 if higher else -1
        for s in range(1 if weak else seeds):
            row = candidate_row(
                number, s, start=start, end=end, count=int(events), tau=tau, origin=origin,
                cost=cost, state_dim_mean=states, state="stopped" if weak else "complete",
                difference=sign * (mean + rng.normal(0, 0.008)),
                why="first seeds lose more than the margin" if weak else None,
            )  # fmt: skip
            rows.append(row | {"metric": "accuracy" if higher else "bits_per_byte",
                               "higher_is_better": higher})  # fmt: skip
    rows.append(candidate_row(count, 0, state="failed", status="failed", why="out of memory",
                              val_metric=None, train_flops=None, state_dim_mean=None))  # fmt: skip
    return pd.DataFrame(rows)


def confirmation(rows, seeds=5, seed=1, spread=0.008):
    """The suite's trials: `rows` maps labels to (role, matches, arm fields, difference, cost, N).

    Full size is there too.
    """
    rng = np.random.default_rng(seed)
    every = {"full": ("full", None, {}, 0.0, 1.0, 64.0), **rows}
    noise = rng.normal(0, 0.01, seeds)
    found = []
    for label, (role, matches, arm, difference, cost, states) in every.items():
        for s in range(seeds):
            own = 0.0 if label == "full" else rng.normal(0, spread)
            value = 0.92 + noise[s] + difference + own
            record = trial_record(f"{label}/{s}", role, 100 + s, value, cost, states)
            spec = {"task": {"name": "digits"}, "training": {"steps": STEPS}, "seed": 100 + s,
                    "arm": {"kind": record["arm"], **arm}}  # fmt: skip
            found.append((record, spec, {"label": label, "role": role, "matches": matches}))
    return schemas.trials_table(found).to_pandas()


def trial_record(trial_id, role, seed, value, cost, states):
    """A line of `trials` with its fixed columns."""
    return {
        "trial_id": trial_id, "task": "digits", "model": "lru",
        "arm": "full" if role == "small" else role, "seed": seed, "protocol": "strict",
        "status": "completed", "metric": "accuracy", "higher_is_better": True,
        "val_metric": value, "test_metric": value - 0.01, "selected_step": STEPS,
        "state_dims": [round(states)], "state_dim_mean": float(states),
        "state_dim_total": round(states), "initial_state_dim": 64.0, "parameters": 1000,
        "train_flops": FULL_FLOPS * cost, "seconds_total": 10.0, "exclusive": True, "threads": 1,
        "peak_memory_bytes": 1_000_000, "flops_method": FULL_FLOPS * cost,
        "seconds_method": 10.0, "backend": "plain", "device": "a cpu", "torch_version": "2.13.0",
        "git_commit": "abc", "data_fingerprint": "data of digits",
    }  # fmt: skip


def ways(settings):
    """Rows for `confirmation` from {label: (start, end, count, tau)}: in_training by `effect`."""
    rows = {}
    for label, (start, end, count, tau) in settings.items():
        arm = {"start": float(start), "end": float(end), "count": int(count), "tau": float(tau)}
        difference, cost, states = effect(start, end, count, tau)
        rows[label] = ("in_training", None, arm, difference, cost, states)
    return rows


def over_training(trials, every=50):
    """(curves, truncations) of the confirmation's trials, at evaluations and after truncations."""
    curves, events = [], []
    rng = np.random.default_rng(2)
    for t in trials.itertuples():
        truncated = t.role == "in_training"
        arm = json.loads(t.spec_json)["arm"]
        at, dims = [], np.geomspace(64, t.state_dim_mean, int(arm.get("count", 0)) + 1)
        for k in range(1, len(dims) if truncated else 0):
            step = round(STEPS * (arm["start"] + (arm["end"] - arm["start"]) * k / arm["count"]))
            at.append(step)
            events.append({"trial_id": t.trial_id, "step": step, "block": 0,
                           "dim_before": round(dims[k - 1]), "dim_after": round(dims[k]),
                           "tau": arm["tau"], "energy_kept": 0.95, "error_bound": 0.1,
                           "seconds": 0.1})  # fmt: skip
        for step in sorted({*range(0, STEPS + 1, every), *at}):
            value = t.val_metric * (1 - 0.9 * np.exp(-step / 220)) + rng.normal(0, 0.006)
            value -= 0.12 * sum(np.exp(-(step - a) / 60) for a in at if step >= a)
            line = {
                "trial_id": t.trial_id,
                "step": step,
                "split": "validation",
                "seconds": step / 150,
            }
            curves.append({**line, "metric": "accuracy", "value": value})
            curves.append({**line, "metric": "loss", "value": 9.9})
    tables = schemas.make_table("curves", curves), schemas.make_table("truncations", events)
    return tables[0].to_pandas(), tables[1].to_pandas()


def a_record(goal="constrained", state="searching", finalists=(), recommendation=None, **study):
    """The content of study.json."""
    return {
        "study": {
            "name": "timing.digits", "description": "When to truncate?",
            "base": {"task": {"name": "digits"}, "arm": {"kind": "in_training"}},
            "space": {"start": {"low": 0.0, "high": 0.5, "log": False},
                      "length": {"low": 0.04, "high": 0.4, "log": False}, "end": None,
                      "count": {"low": 1, "high": 8}, "options": {},
                      "tau": {"low": 0.005, "high": 0.3, "log": True}},
            "seeds": [0, 1, 2], "confirm_seeds": [100, 101, 102, 103, 104], "goal": goal,
            "margin": 0.02 if goal == "constrained" else None, "minimise_state_dim": False,
            "sampler": "tpe", "sampler_seed": 0, "startup": 8, "enqueue": [], "grid": 50,
            "batch": 4, "first_seeds": 1, "finalists": 3,
            "budget": {"candidates": 48, "flops": None, "gpu_hours": None}, **study,
        },
        "command": "harness tune timing.digits",
        "state": state,
        "spent": {"candidates": 49, "flops": 3.1e12, "flops_alone": 5.0e12, "gpu_hours": 0.4,
                  "seconds": 1440.0},
        "finalists": list(finalists),
        "recommendation": recommendation,
    }  # fmt: skip


def compared(trials):
    """The comparison of the confirmation."""
    return compare(trials)
