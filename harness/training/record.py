"""The record of an ended trial: the fixed columns of `trials`."""

from __future__ import annotations

from typing import Any

from harness.models.description import numbers_in
from harness.models.orders import Order, largest, mean, total
from harness.records import schemas

from .costs.spending import Spending
from .facts import TrialFacts, scan_choices
from .host import machine
from .state import RunState


def record_of(
    facts: TrialFacts, spending: Spending, state: RunState, status: str, exclusive: bool
) -> dict[str, Any]:
    """The fixed columns of `trials` for a trial with this final status; `exclusive` if its seconds
    may be compared."""
    task, spec, seconds = facts.task, facts.spec, dict(spending.clocks.seconds)
    initial = spec.built.state_dims
    orders = state.orders if state.selected is None else state.selected.orders
    selected = state.selected if status == "completed" else None
    own_flops = state.train_flops + state.truncation_flops
    # Recorded spectra and evaluations cost every arm the same, so an arm's total leaves them out.
    own_seconds = seconds["train"] + seconds["truncate"]
    identity, forked = facts.manifest["identity"], spending.forked
    backends = scan_choices(spec, facts.device, state.model.state_dims)
    return {
        "trial_id": facts.trial_id,
        "task": task.name,
        "model": spec.model.kind,
        "arm": spec.arm.kind,
        "seed": spec.seed,
        "protocol": spec.training.protocol,
        "status": status,
        "metric": task.metric,
        "higher_is_better": task.higher_is_better,
        "val_metric": selected.value if selected else None,
        "test_metric": None,
        "selected_step": selected.step if selected else None,
        "state_dims": [largest(order) for order in orders],
        "state_dim_mean": sum(map(mean, orders)) / len(orders),
        "state_dim_total": sum(map(total, orders)),
        **_of_stacks(orders),
        "initial_state_dim": sum(initial) / len(initial),
        "parameters": numbers_in(state.model),
        "train_flops": float(state.train_flops),
        **{f"seconds_{name}": value for name, value in seconds.items()},
        "seconds_total": spending.clocks.total,
        "seconds_lost": spending.lost,
        "seconds_spent": spending.seconds,
        "exclusive": exclusive,
        "threads": identity["threads"],
        "device_share": facts.device_share,
        "peak_memory_bytes": machine.peak_memory_bytes(facts.device),
        "energy_joules": None,
        "step_latency_seconds": None,
        "state_bytes": None,
        "restarts": spending.restarts,
        "forked_from": forked.trial_id if forked else None,
        "flops_spent": float(state.train_flops - (forked.flops if forked else 0)),
        "flops_method": own_flops + facts.flops_before,
        "seconds_method": own_seconds + facts.seconds_before,
        "seconds_protocol": protocol_seconds(facts, spending, state),
        "backend": ",".join(dict.fromkeys(choice.name for choice in backends)),
        "device": identity["device"],
        "torch_version": identity["torch_version"],
        "git_commit": facts.manifest["git_commit"],
        **recorded(facts.manifest.get("plugins")),
        "data_fingerprint": facts.data_fingerprint,
    }


def recorded(plugins: list[dict[str, Any]] | None) -> dict[str, str]:
    """The column of plug-ins, as the manifest has them; none where it has none, as in records from
    before there were any."""
    return {"plugins": schemas.canonical(plugins)} if plugins else {}


def _of_stacks(orders: list[Order]) -> dict[str, Any]:
    """The orders of every system, if a block has several; a block of one is a list of one."""
    if not any(isinstance(order, tuple) for order in orders):
        return {}
    return {"orders": [list(o) if isinstance(o, tuple) else [o] for o in orders]}


def protocol_seconds(facts: TrialFacts, spending: Spending, state: RunState) -> float:
    """Seconds of this trial's training by its protocol's clock, without prerequisites."""
    seconds = spending.clocks.seconds
    if facts.spec.protocol.clock == "without_truncation":
        return seconds["train"] + state.seconds_passes
    return seconds["train"] + seconds["truncate"]
