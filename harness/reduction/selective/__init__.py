"""Truncating selective layers, which have no system of their own, by one that stands in for it."""

from .decomposition import SelectiveDecomposition, SelectiveLayer, StateSelection

__all__ = ["SelectiveDecomposition", "SelectiveLayer", "StateSelection"]
