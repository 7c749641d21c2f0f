"""The cost of a plan's missing trials: FLOPs, time and disk space."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from harness.arms import StepWork
from harness.planning.forks import arrange_forks
from harness.planning.plan import Plan, Planned
from harness.records.index import Results
from harness.records.store import Store
from harness.suite import TrialSpec
from harness.training.costs.flops import forward_flops, step_flops
from harness.training.host.memory import FLOAT, parameters

STAGES = ("trained from scratch", "after another trial of its seed")
DONE = ("completed", "diverged", "failed")
# From the paper's timings on its GPU: the full sCIFAR model, 4.34e17 of these FLOPs, trained in
# 4.34 h. A step of one block with few states, where launches take all the time, took about 1 ms.
GPU_FLOPS_PER_SECOND, GPU_SECONDS_PER_BLOCK = 2.8e13, 1e-3
Rates = Mapping[str, Mapping[str, float]]  # by device, by task; "" for all tasks together


def plan_summary(plan: Plan) -> dict[str, Any]:
    """A plan as JSON: its rows, and the cost of what each stage lacks.

    Seconds are for one worker, by device, at the rate of the finished trials in the store.
    """
    rates = measured_rates(plan.store)
    stages = [
        {"stage": number, "title": title, **_cost(plan, rows, rates)}
        for number, title in enumerate(STAGES)
        if (rows := [row for row in plan.rows if row.stage == number])
    ]
    return {
        "suite": plan.suite.name,
        "store": plan.store.address,
        "flops_per_second": {device: tasks[""] for device, tasks in rates.items()},
        "stages": stages,
        "sharing": fork_savings(plan),
        "trials": [
            {
                "row": row.name,
                "seed": row.role.trial.seed,
                "state": plan.state(row),
                "trial_id": row.trial_id,
                "needs": list(row.needs),
                "blocked": row.blocked or plan.damaged.get(row.trial_id or ""),
            }
            for row in plan.rows
        ],
    }


def _cost(plan: Plan, rows: Iterable[Planned], rates: Rates) -> dict[str, Any]:
    states = [(row, plan.state(row)) for row in rows]
    todo = {
        row.trial_id or row.role.trial.trial_id: row.spec or row.role.trial
        for row, state in states
        if state in ("missing", "waiting")
    }
    flops = {trial_id: estimated_flops(trial) for trial_id, trial in todo.items()}
    return {
        "roles": len(states),
        "done": sum(state in DONE for _, state in states),
        "missing": sum(state in ("missing", "waiting") for _, state in states),
        "blocked": sum(state == "blocked" for _, state in states),
        "estimated_flops": sum(flops.values()),
        "estimated_gpu_hours": sum(gpu_seconds(todo[i], flops[i]) for i in todo) / 3600,
        "estimated_seconds": {
            device: sum(count / tasks[todo[i].task.name] for i, count in flops.items())
            for device, tasks in rates.items()
            # The rate of another task says nothing: the task may be a thousand times smaller.
            if all(trial.task.name in tasks for trial in todo.values())
        },
        "estimated_bytes": sum(map(trial_bytes, todo.values())),
    }


def fork_savings(plan: Plan) -> dict[str, Any]:
    """What the missing trials save by forking from others, and the disk space it takes.

    FLOPs are counted only up to a trial's first truncation, so they are a lower bound. Bytes are
    an upper bound: those of all kept states, as if all existed at the same time.
    """
    trials = {row.trial_id: row.spec for row in plan.rows if row.trial_id and row.spec}
    fork_plan = arrange_forks(trials.values(), plan.store, plan.ended, kept=plan.found.forks)
    saved = 0.0
    for trial_id, (_, step) in fork_plan.forks.items():
        trial = trials[trial_id]
        before = min((at for at, _ in trial.arm.event_keys(trial.training)), default=step)
        saved += estimated_flops(trial) / trial.training.steps * min(step, before)
    kept = sum(len(steps) * state_bytes(trials[i]) for i, steps in fork_plan.keep_at.items())
    return {"trials": len(fork_plan.forks), "saved_flops": saved, "kept_bytes": kept}


def state_bytes(trial: TrialSpec) -> int:
    """Bytes of a resumable state: weights, two moments and the selected weights, float32."""
    model = trial.model
    statistics = 2 * model.width * model.blocks  # running statistics of the norms
    return 4 * FLOAT * (parameters(model, trial.task.info, model.state_dims) + statistics)


def estimated_flops(trial: TrialSpec) -> float:
    """Training FLOPs of a trial at its initial sizes: an upper bound if it will truncate."""
    arm, model, training, info = trial.arm, trial.model, trial.training, trial.task.info
    dims = arm.trained_dims(model) or model.state_dims
    work = StepWork(model, dims, training.batch_size, partial(forward_flops, model, info))
    step = step_flops(model, info, dims, training.batch_size) + arm.extra_flops(work)
    return arm.train_steps(training.steps) * step


def gpu_seconds(trial: TrialSpec, flops: float) -> float:
    """Seconds of training on a GPU like the paper's: by FLOPs, or by launches if that is more."""
    steps = trial.arm.train_steps(trial.training.steps)
    return max(flops / GPU_FLOPS_PER_SECOND, steps * trial.model.blocks * GPU_SECONDS_PER_BLOCK)


def measured_rates(store: Store) -> dict[str, dict[str, float]]:
    """Training FLOPs per second of the completed trials in a store, by device and task."""
    totals: dict[str, dict[str, tuple[float, float]]] = {}
    for result in Results(store).sound():  # damage is reported where it matters
        if result["status"] != "completed":
            continue
        record = result["record"]
        tasks = totals.setdefault(record["device"], {})
        for name in ("", record["task"]):
            flops, seconds = tasks.get(name, (0.0, 0.0))
            tasks[name] = (
                flops + record["train_flops"],
                seconds + record["seconds_total"],
            )
    return {
        device: {name: flops / seconds for name, (flops, seconds) in tasks.items() if flops}
        for device, tasks in totals.items()
        if tasks[""][0] > 0
    }


def trial_bytes(trial: TrialSpec) -> int:
    """Bytes of an ended trial: its weights, and spectra at every evaluation and event."""
    training, states = trial.training, sum(trial.model.state_dims)
    looks = 1 + training.steps // training.evaluate_every + 2 * len(trial.arm.happens(training))
    return 20_000 + state_bytes(trial) // 4 + looks * states * 2 * 8


__all__ = ["estimated_flops", "measured_rates", "plan_summary", "trial_bytes"]
