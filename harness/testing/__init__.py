"""Checks of the contracts, for the tests of whoever writes a layer, an arm or a task.

Each takes one of them, goes through what its contract promises, and raises AssertionError in one
line for the first promise that is not kept. Our own go through the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .arms import check_arm
    from .layers import check_layer
    from .tasks import check_task

__all__ = ["check_arm", "check_layer", "check_task"]

_ROOMS = {"check_arm": "arms", "check_layer": "layers", "check_task": "tasks"}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_ROOMS[name]}"), name)
