"""The precision of products, `BackboneSpec.precision`; the recurrence is always in float32.

fp32: as torch does it. tf32: on a GPU, float32 products take inputs rounded to 10 bits, forward and
backward, for the whole trial. bf16: products inside the blocks take and give bfloat16; what
runs from block to block, norms, parameters and optimizer stay in float32. On a backend whose
recurrence cannot be told from its products, bf16 leaves the whole scan in float32; tf32 then
rounds inside a block of steps, but not what is carried from block to block.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def products(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context that blocks run in."""
    if precision != "bf16":
        return nullcontext()
    # Each weight is cast once a pass: a cache would only hold copies.
    return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)


def in_force(precision: str, device: torch.device) -> str:
    """The precision that products have on this device: tf32 exists on GPUs alone."""
    return "fp32" if precision == "tf32" and device.type != "cuda" else precision


def set_products(precision: str, device: torch.device) -> str:
    """Set what is a property of the process, and return what is in force.

    On a GPU always set, since a worker process may have run another trial before.
    """
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = precision == "tf32"  # by default it may, in a GRU
    return in_force(precision, device)
