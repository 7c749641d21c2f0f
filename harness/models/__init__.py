"""Backbones and state-space layers; imports neither ray nor mlflow nor optuna."""

from .backbone import Backbone
from .build import build, load
from .lru import LRU

__all__ = ["LRU", "Backbone", "build", "load"]
