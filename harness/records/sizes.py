"""The size of each block of a recorded model, as one number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def block_sizes(state_dims: Sequence[int], orders: Any) -> list[float]:
    """The states of every block: its state dimension, or for a stack the mean over its systems.

    `state_dims` and `orders` are a trial's columns; `orders` is absent if no block is a stack.
    """
    if orders is None or isinstance(orders, float):  # pandas writes NaN for a missing value
        return list(state_dims)
    return [sum(block) / len(block) for block in orders]
