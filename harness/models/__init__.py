"""Backbones and the layers inside them; imports neither ray nor mlflow nor optuna.

Torch loads with the first name that needs it, since a plan reads `specs` alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backbone import Backbone
    from .description import build, load
    from .layers.base import Layer
    from .layers.gru import GRU
    from .layers.lru import LRU

_HOMES = {
    "Backbone": "backbone",
    "build": "description",
    "load": "description",
    "Layer": "layers.base",
    "GRU": "layers.gru",
    "LRU": "layers.lru",
}

__all__ = ["GRU", "LRU", "Backbone", "Layer", "build", "load"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
