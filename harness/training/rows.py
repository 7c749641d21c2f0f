"""The rows that a running trial adds to its tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.arms import Arm
from harness.models.orders import Order, largest
from harness.reduction import BlockTruncation, is_of_selective

from .state import RunState


def record_truncations(state: RunState, rows: Sequence[dict[str, Any]], **common: Any) -> None:
    """Add one row per block, with the values common to all blocks of the event."""
    state.truncations.extend({"step": state.step, **row, **common} for row in rows)


def record_point(state: RunState, split: str, metric: str, value: float, seconds: float) -> None:
    """Add one point of a curve."""
    state.curves.append(
        {"step": state.step, "split": split, "metric": metric, "value": value, "seconds": seconds}
    )


def sizes_row(block: int, before: Order, after: Order) -> dict[str, Any]:
    """What a row of `truncations` says of a block's sizes."""
    sizes = {"block": block, "dim_before": largest(before), "dim_after": largest(after)}
    return sizes | ({"orders_after": list(after)} if isinstance(after, tuple) else {})


def truncation_row(arm: Arm, done: BlockTruncation | None) -> dict[str, Any]:
    """What a row of `truncations` says of a block's truncation; None where it was left alone."""
    weighting = arm.weighting
    row: dict[str, Any] = {
        "energy_kept": done.energy_kept if done else 1.0,
        "error_bound": done.error_bound if done else 0.0,
    }
    if weighting is not None:
        row["gramians"] = f"{weighting.controllability}/{weighting.observability}"
        if done:
            row["output_error"], row["stabilised"] = done.output_error, done.stabilised
            row["poles_moved"] = done.poles_moved
            row["weighted_singular_values"] = done.hsv.tolist()
    if done and done.refit:
        row["refit"], row["output_error"] = done.refit, done.output_error
    if done and is_of_selective(done):
        row["gramians"], row["output_error"] = arm.stand_in, done.output_error
        row["weighted_singular_values"] = done.hsv.tolist()
        row["poles_moved"] = done.poles_moved
    return row
