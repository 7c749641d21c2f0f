"""How many trials share a GPU, from an estimate of the memory that each needs. Without torch.

It is an estimate: what a layer keeps for its backward pass depends on the layer, its backend and
the shape. So it counts more than the layers here were seen to keep, a factor of safety comes on
top, and what still does not fit ends with an error of that trial.
"""

from __future__ import annotations

from harness.suite.specs import TrialSpec
from harness.training.host.memory import FLOAT, parameters

SAFETY = 1.5
PROCESS_BYTES = 2**30  # of CUDA's context and of libraries, in each process
MOST = 8  # trials on a GPU; more only take turns
# Numbers that a block keeps for the backward pass, per token: the layers here keep 7 per feature,
# and the GRU 8 per state (tests/planning/test_gpu_share.py counts them).
PER_FEATURE, PER_STATE = 8, 8
COPIES = 6  # of the parameters: gradients, two moments, the selected model, one kept for later
# GiB of the smallest variant of each type, as far as a process can have it; else a T4's.
GPU_GIB = {
    "V100": 15, "P100": 11, "T4": 14, "P4": 7, "K80": 11, "A10G": 21, "L4": 21, "L40S": 43,
    "A100": 39, "H100": 78, "H200": 138, "H20": 93, "B200": 176, "B300": 262, "GB200": 182,
    "GB300": 270, "RTX-PRO-6000": 93,
}  # fmt: skip
UNKNOWN_GIB = 14


def gpu_share(trial: TrialSpec, gpu_bytes: int) -> float:
    """The part of a GPU of this many bytes that a trial gets: 1, 1/2, 1/4 or 1/8, so that shares of
    different trials fill a GPU."""
    count = 1
    while 2 * count <= MOST and 2 * count * training_bytes(trial) <= gpu_bytes:
        count *= 2
    return 1.0 / count


def training_bytes(trial: TrialSpec) -> float:
    """Bytes of a GPU that a trial takes at its initial sizes, with safety."""
    model, info, batch = trial.model, trial.task.info, trial.training.batch_size
    dims = trial.arm.trained_dims(model) or model.state_dims
    size = 2 if model.precision == "bf16" else FLOAT
    weights = COPIES * FLOAT * parameters(model, info, dims)
    tokens = batch * info.length * (2 if info.paired else 1)
    features = PER_FEATURE * model.width * size
    # The largest block once more: its gradients are there while the others still wait.
    per_token = sum(features + PER_STATE * FLOAT * n for n in (*dims, max(dims)))
    logits = 2 * FLOAT * info.outputs * (batch if info.pools else tokens)
    return SAFETY * (weights + tokens * per_token + logits) + PROCESS_BYTES


def gpu_memory(address: str, accelerator: str | None) -> int:
    """Bytes of a GPU: on this machine as it is (the smallest one), on a cluster by its type, and if
    that is not known a small one's.

    Raises:
        ValueError: this machine has none.
    """
    if address != "local":
        return GPU_GIB.get(accelerator or "", UNKNOWN_GIB) * 2**30
    import torch

    there = range(torch.cuda.device_count())
    if not there:
        raise ValueError("--gpus auto: this machine has no GPU that torch can use")
    return min(torch.cuda.get_device_properties(i).total_memory for i in there)


__all__ = ["gpu_memory", "gpu_share", "training_bytes"]
