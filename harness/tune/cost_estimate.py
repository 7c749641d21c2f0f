"""A study's estimated cost, with and without forks, before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.arms import Arm
from harness.planning.estimate import estimated_flops, measured_rates, state_bytes
from harness.planning.plan_lines import duration_text
from harness.records.store import Store
from harness.suite import FullSpec, TrialSpec

from .search.suggest import sobol
from .study_spec import Study


def cost_estimate(study: Study, store: Store) -> dict[str, Any]:
    """A study's estimated cost as JSON, for as many Sobol-spread candidates as its budget allows.

    FLOPs are upper bounds. What a truncation saves is not known beforehand, and a candidate costs
    less if it is stopped early or shares more than its first truncation with another.
    """
    count = study.budget.candidates
    one = estimated_flops(study.base)
    if count is None:
        assert study.budget.flops is not None or study.budget.gpu_hours is not None
        rounds = int((study.budget.flops or 0.0) // (one * len(study.seeds) * study.batch))
        count = max(1, rounds) * study.batch  # or more, since they may cost less
    spread = study.model_copy(update={"startup": max(0, count - len(study.enqueue))})
    params = [*study.enqueued(), *sobol(spread)][:count]
    arms = [study.arm(values) for values in params]
    shares = [spent_steps(study.base, arms, kept) for kept in (1.0, 0.5)]
    full = study.base.model_copy(update={"arm": FullSpec()})
    kept = len(study.first_event_steps()) * len(study.seeds)
    seeds = len(study.seeds)
    rates = measured_rates(store)
    return {
        "study": study.name,
        "store": store.address,
        "candidates": count,
        "done": _done(study, store),
        "seeds": seeds,
        "flops_alone": shares[0][0] * one * seeds,
        "flops_shared": shares[0][1] * one * seeds,
        "share": shares[0][1] / shares[0][0],
        "share_if_half": shares[1][1] / shares[1][0],
        # full; the paper's setting and its small; each finalist, its twin in that window, its small
        "confirmation_flops": (3 + 3 * study.finalists) * one * len(study.confirm_seeds),
        "kept_states": kept,
        "kept_bytes": kept * state_bytes(full),
        "estimated_seconds": {
            device: shares[0][1] * one * seeds / tasks.get(study.base.task.name, tasks[""])
            for device, tasks in rates.items()
        },
    }


def _done(study: Study, store: Store) -> dict[str, Any]:
    """The study's progress in this store: its state, and how many candidates have ended."""
    begun: dict[str, Any] = {"state": "not begun", "candidates": []}
    content = store.suite(study.name).study() if store.suite(study.name).has_study() else begun
    ended = sum(candidate["state"] != "running" for candidate in content["candidates"])
    return {"state": content["state"], "candidates": ended}


def spent_steps(base: TrialSpec, arms: Sequence[Arm], kept: float) -> tuple[float, float]:
    """(alone, shared): a search's training FLOPs in units of one full training.

    A step after a trial's first truncation costs the fraction `kept` of a full step, at most 1.
    With T steps and a first truncation after step f, a candidate alone costs
    (f + kept (T - f)) / T. With forks, the full model costs 1, and each distinct candidate costs
    kept (T - f) / T.
    """
    T = base.training.steps
    keys = {arm.event_keys(base.training) for arm in arms}
    firsts = [those[0][0] for those in keys]
    alone = 1.0 + sum((f + kept * (T - f)) / T for f in firsts)
    shared = 1.0 + sum(kept * (T - f) / T for f in firsts)
    return alone, shared


def cost_lines(expected: dict[str, Any]) -> list[str]:
    """The estimate as text."""
    done = expected["done"]
    lines = [
        f"study {expected['study']} in {expected['store']}: {expected['candidates']} candidates on "
        f"{expected['seeds']} seeds, and the full model; {done['candidates']} have ended "
        f"({done['state']})",
        f"search: at most {expected['flops_shared']:.2g} FLOPs, against "
        f"{expected['flops_alone']:.2g} with every trial run alone ({expected['share']:.2f}; "
        f"{expected['share_if_half']:.2f} if a truncated step costs half)",
        f"confirmation: at most another {expected['confirmation_flops']:.2g} FLOPs",
        f"kept for forks: at most {expected['kept_states']} states, "
        f"{expected['kept_bytes'] / 1e6:.1f} MB, until the search ends",
    ]
    for device, seconds in expected["estimated_seconds"].items():
        lines.append(f"search: about {duration_text(seconds)} of one worker on {device}")
    return lines


__all__ = ["cost_estimate", "cost_lines", "spent_steps"]
