"""Rows of a comparison over a grid of one setting."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.arms import Arm


def grid(label: str, values: Sequence[float], make: Callable[..., Arm]) -> dict[str, Arm]:
    """{f"{label}={value}": make(value)} for every value.

    Raises:
        ValueError: the grid is empty or repeats a value.
    """
    if not values:
        raise ValueError(f"the grid of {label!r} is empty")
    twice = next((v for i, v in enumerate(values) if v in values[:i]), None)
    if twice is not None:
        raise ValueError(f"the grid of {label!r} has {twice} twice: {', '.join(map(str, values))}")
    return {f"{label}={value}": make(value) for value in values}
