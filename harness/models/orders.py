"""The order of a block: one number, or one for each system of a stack.

A block of one system (LRU) has an order N, an int. A block that is a stack of S systems, each of
its own input and output (S4D, Mamba: one per channel), has S of them, a tuple: its parameters are
padded to the largest, its `state_dim`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Order = int | tuple[int, ...]


def each(order: Order, rule: Callable[[int], int]) -> Order:
    """`rule` applied to the order of every system."""
    return tuple(map(rule, order)) if isinstance(order, tuple) else rule(order)


def largest(order: Order) -> int:
    """The state dimension that holds every system of the block."""
    return max(order) if isinstance(order, tuple) else order


def total(order: Order) -> int:
    """The states of all systems of the block."""
    return sum(order) if isinstance(order, tuple) else order


def mean(order: Order) -> float:
    """The states of a system of the block, on average; the order itself where there is one."""
    return sum(order) / len(order) if isinstance(order, tuple) else order


def order_of(layer: Any) -> Order:
    """The order of a layer as it is; a stack says its systems' in `orders`, (S,) integers."""
    orders = getattr(layer, "orders", None)
    if orders is None:
        return layer.state_dim
    return tuple(map(int, orders.tolist() if hasattr(orders, "tolist") else orders))


def regroup(found: Sequence[int], like: Sequence[Order]) -> list[Order]:
    """One number a system, blocks one after the other, as the orders of these blocks."""
    rest, blocks = iter(found), []
    for order in like:
        blocks.append(each(order, lambda _: next(rest)))
    return blocks
