"""Gramians, Hankel singular values, rank rules and balanced truncation, in double precision."""

from .balanced import Truncation, TruncationError, balanced_truncation
from .gramians import UnusableSystem, energy_rank, gramians
from .hankel import Decomposition, hankel_singular_values, spectrum
from .moments import Moments
from .truncate import decompositions, layers, spectra, truncate

__all__ = [
    "Decomposition",
    "Moments",
    "Truncation",
    "TruncationError",
    "UnusableSystem",
    "balanced_truncation",
    "decompositions",
    "energy_rank",
    "gramians",
    "hankel_singular_values",
    "layers",
    "spectra",
    "spectrum",
    "truncate",
]
