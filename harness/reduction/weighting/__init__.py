"""Truncation weighted by what a layer hears and what the loss looks at."""

from .calibration import Calibration, calibration_of
from .choice import SIDES, Weighting, weighting_of
from .error import output_errors
from .horizon import horizon_gramians
from .measured import WeightedDecomposition, weighted_decompositions
from .reduce import reduce_weighted
from .refit import Refit, refitted

__all__ = [
    "SIDES",
    "Calibration",
    "Refit",
    "WeightedDecomposition",
    "Weighting",
    "calibration_of",
    "horizon_gramians",
    "output_errors",
    "reduce_weighted",
    "refitted",
    "weighted_decompositions",
    "weighting_of",
]
