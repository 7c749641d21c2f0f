"""The least memory that a trial needs, against what there is. No torch, so a driver can use it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.models.specs import BackboneSpec
from harness.suite.specs import TrialSpec
from harness.tasks.base import TaskInfo
from harness.tasks.storage.capacity import machine_memory

FLOAT = 4  # bytes of a float32


@dataclass(frozen=True)
class Need:
    """The least bytes that a trial needs: parameters with gradients and moments, what the backward
    pass must keep, and the data, which are never on a GPU."""

    model: int
    activations: int
    data: int


def check_memory(trial: TrialSpec, gpu_bytes: int | None = None) -> None:
    """Refuse a trial that cannot fit. The estimate is a lower bound: what fits is never refused.

    `gpu_bytes` is the memory of the GPU that it trains on; None on a CPU.

    Raises:
        ValueError: what it needs, and what there is.
    """
    need, here = least_memory(trial), machine_memory()
    trained = need.model + need.activations
    if gpu_bytes is not None and trained > gpu_bytes:
        raise ValueError(f"{_needs(trial, trained, need)}; the GPU has {_size(gpu_bytes)}")
    held = need.data + (trained if gpu_bytes is None else 0)
    if held > here:
        raise ValueError(f"{_needs(trial, held, need)}; there are {_size(here)} here")


def least_memory(trial: TrialSpec) -> Need:
    """The least that a trial needs, whatever its data turn out to be."""
    arm, training, info = trial.arm, trial.training, trial.task.info
    data = trial.task.data_bytes or 0
    model, blocks = trial.model, trial.model.blocks
    dims = arm.initial_dims(model) or [1] * blocks
    numbers = parameters(model, info, dims)
    if arm.from_full:  # it may train at any smaller size, or not at all
        return Need(FLOAT * numbers, 0, data)
    size = 2 if model.precision == "bf16" else FLOAT
    features = training.batch_size * info.length * model.width * (2 if info.paired else 1)
    # Weights, gradients and two moments; at least one tensor of features per block.
    return Need(4 * FLOAT * numbers, blocks * features * size, data)


def parameters(model: BackboneSpec, info: TaskInfo, dims: Sequence[int]) -> int:
    """Real numbers in a model of these state dimensions."""
    H = model.width
    half = H * (H + 1)
    mixers = {"glu": 2 * half, "half_glu1": half, "half_glu2": half, "linear": H * H, "none": 0}
    norm, mixer = model.surroundings
    numbers = sum(model.layer_parameters(n) + mixers[mixer] for n in dims)
    if norm == "batch_affine":
        numbers += 2 * H * (len(dims) + model.ends_with_norm)
    numbers += H * (info.vocabulary or (info.inputs or 1) + 1)
    if info.paired:
        return numbers + H * (2 * H + 1) + H // 2 * (H + 1) + info.outputs * (H // 2 + 1)
    return numbers + info.outputs * (H + 1)


def _needs(trial: TrialSpec, total: int, need: Need) -> str:
    parts = {"model and optimizer": need.model, "activations": need.activations, "data": need.data}
    listed = ", ".join(f"{_size(count)} for {what}" for what, count in parts.items() if count)
    return (
        f"{trial.arm.with_article} trial of {trial.task.name} needs at least {_size(total)} "
        f"of memory ({listed})"
    )


def _size(count: int) -> str:
    if count >= 2**40:
        return f"{count / 2**40:.3g} TiB"
    return f"{count / 2**30:.3g} GiB" if count >= 2**30 else f"{count / 2**20:.3g} MiB"


__all__ = ["Need", "check_memory", "least_memory", "parameters"]
