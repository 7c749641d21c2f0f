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
    from .layers.mamba import Mamba
    from .layers.mamba2 import Mamba2
    from .layers.s4d import S4D
    from .layers.s5 import S5

_HOMES = {
    "Backbone": "backbone",
    "build": "description",
    "load": "description",
    "Layer": "layers.base",
    "GRU": "layers.gru",
    "LRU": "layers.lru",
    "Mamba": "layers.mamba",
    "Mamba2": "layers.mamba2",
    "S4D": "layers.s4d",
    "S5": "layers.s5",
}

__all__ = ["GRU", "LRU", "S4D", "S5", "Backbone", "Layer", "Mamba", "Mamba2", "build", "load"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
