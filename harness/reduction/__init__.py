"""Gramians, Hankel singular values, rank rules and balanced truncation, in double precision."""

from .balanced import Truncation, TruncationError, balanced_truncation
from .gramians import energy_rank, gramians, hankel_singular_values, spectrum
from .moments import Moments
from .truncate import layers, spectra, truncate

__all__ = [
    "Moments",
    "Truncation",
    "TruncationError",
    "balanced_truncation",
    "energy_rank",
    "gramians",
    "hankel_singular_values",
    "layers",
    "spectra",
    "spectrum",
    "truncate",
]
