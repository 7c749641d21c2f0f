"""How large the blocks of a recorded model are, one number each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def block_sizes(state_dims: Sequence[int], orders: Any) -> list[float]:
    """The states of every block: its state dimension, or of a stack the mean order of its systems.

    `state_dims` and `orders` are a trial's columns; orders are absent where no block is a stack.
    """
    if orders is None or isinstance(orders, float):  # pandas writes NaN for what is absent
        return list(state_dims)
    return [sum(block) / len(block) for block in orders]
