"""Backbones and state-space layers; imports neither ray nor mlflow nor optuna."""

from .backbone import Backbone
from .description import build, load
from .layers.lru import LRU

__all__ = ["LRU", "Backbone", "build", "load"]
