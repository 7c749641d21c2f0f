"""Analytic FLOP counts in the recurrence form, the same for every backend."""

from __future__ import annotations

from collections.abc import Sequence

from harness.models.specs import BackboneSpec
from harness.tasks.base import TaskInfo

TRAIN_OVER_FORWARD = 3  # forward, and twice that for the backward pass


def forward_flops(
    model: BackboneSpec, info: TaskInfo, state_dims: Sequence[int], gains: int = 0
) -> float:
    """FLOPs of the forward pass of one example (both documents of a pair).

    Per token and block those of the layer, and 4 H^2 (GLU; 2 H^2 for a linear mixer), plus encoder
    and head, and 2 H^2 for each of `gains` static gains. An embedding costs nothing.
    """
    H = model.width
    mixer = (4 if model.mixer == "glu" else 2) * H * H
    token = sum(model.layer_flops(n) + mixer for n in state_dims)
    token += 2 * H * H * gains
    token += 2 * H * info.inputs if info.inputs is not None else 0
    tokens = info.length * (2 if info.paired else 1)
    if info.paired:
        head = 2 * (2 * H * H + H * (H // 2) + (H // 2) * info.outputs)
    elif info.pools:
        head = 2 * H * info.outputs
    else:
        head = 2 * H * info.outputs * info.length
    return float(token * tokens + head)


def step_flops(
    model: BackboneSpec, info: TaskInfo, state_dims: Sequence[int], batch: int, gains: int = 0
) -> float:
    """FLOPs of one training step on `batch` examples."""
    return TRAIN_OVER_FORWARD * batch * forward_flops(model, info, state_dims, gains)


def spectrum_flops(n: int, width: int) -> float:
    """FLOPs, to leading order, of the Gramians and Hankel singular values of one block.

    Complex arithmetic is counted as four real; Hermitian eigendecomposition 9 n^3 and singular
    value decomposition 22 n^3 (Golub and Van Loan, Matrix Computations, chapters 8.3 and 8.6).
    """
    return 4.0 * (2 * 2 * n * n * width + 2 * 9 * n**3 + 2 * n**3 + 22 * n**3)


def truncation_flops(n: int, r: int, width: int) -> float:
    """FLOPs, to leading order, of truncating one block from n to r states, its spectrum known.

    The nonsymmetric eigendecomposition counts 25 r^3 (the same, chapter 7.5).
    """
    return 4.0 * (4 * n * n * r + 25 * r**3 + 4 * n * r * width)
