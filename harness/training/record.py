"""The record of an ended trial: the fixed columns of `trials`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.records import schemas

from . import machine
from .state import RunState

if TYPE_CHECKING:
    from .trial import Trial


def record_of(trial: Trial, state: RunState, status: str, dims: list[int]) -> dict[str, Any]:
    """The fixed columns of `trials` for a trial that ends so, with these sizes."""
    task = trial.task
    seconds = dict(trial.clocks.seconds)
    selected = state.selected if status == "completed" else None
    own_flops = state.train_flops + state.truncation_flops
    # Spectra for the record and evaluations cost every arm alike and are no part of a way.
    own_seconds = seconds["train"] + seconds["truncate"]
    before = {"flops_method": 0.0, "seconds_method": 0.0}
    if trial.source is not None:
        source_result = trial.source.result()
        assert source_result is not None
        before = source_result["record"]
    identity = trial.manifest["identity"]
    forked = trial.forked or {"trial_id": None, "flops": 0, "seconds": 0.0}
    return {
        "trial_id": trial.folder.trial_id,
        "task": task.name,
        "model": trial.spec.model.kind,
        "arm": trial.spec.arm.kind,
        "seed": trial.spec.seed,
        "protocol": trial.spec.training.protocol,
        "status": status,
        "metric": task.metric,
        "higher_is_better": task.higher_is_better,
        "val_metric": selected.value if selected else None,
        "test_metric": None,
        "selected_step": selected.step if selected else None,
        "state_dims": list(dims),
        "state_dim_mean": sum(dims) / len(dims),
        "state_dim_total": sum(dims),
        "initial_state_dim": sum(trial.initial_state_dims) / len(trial.initial_state_dims),
        "parameters": sum(p.numel() for p in state.model.parameters()),
        "train_flops": float(state.train_flops),
        **{f"seconds_{name}": value for name, value in seconds.items()},
        "seconds_total": trial.clocks.total,
        "seconds_lost": trial.lost,
        "seconds_spent": trial.spent,
        "exclusive": trial.exclusive,
        "threads": identity["threads"],
        "device_share": trial.setting.device_share,
        "peak_memory_bytes": machine.peak_memory_bytes(trial.device),
        "energy_joules": None,
        "step_latency_seconds": None,
        "state_bytes": None,
        "restarts": trial.restarts,
        "forked_from": forked["trial_id"],
        "flops_spent": float(state.train_flops - forked["flops"]),
        "flops_method": own_flops + before["flops_method"],
        "seconds_method": own_seconds + before["seconds_method"],
        "seconds_protocol": protocol_seconds(trial, state),
        "backend": ",".join(
            dict.fromkeys(choice.name for choice in trial.choices(state.model.state_dims))
        ),
        "device": identity["device"],
        "torch_version": identity["torch_version"],
        "git_commit": trial.manifest["git_commit"],
        "plugins": recorded(trial.manifest.get("plugins")),
        "data_fingerprint": trial.data_fingerprint,
    }


def recorded(plugins: list[dict[str, Any]] | None) -> str | None:
    """What the manifest says of plug-ins, as the text of a column."""
    return schemas.canonical(plugins) if plugins else None


def protocol_seconds(trial: Trial, state: RunState) -> float:
    """Seconds of this trial's training by its protocol's own clock, prerequisites left out."""
    seconds = trial.clocks.seconds
    if trial.spec.protocol.clock == "without_truncation":
        return seconds["train"] + state.seconds_passes
    return seconds["train"] + seconds["truncate"]
