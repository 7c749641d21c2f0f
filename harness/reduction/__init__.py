"""Gramians, Hankel singular values, rank rules and reductions of order, in double precision."""

from harness.models.orders import Order

from .balanced import Truncation, TruncationError, balanced_truncation
from .blocks import decompositions, layers, spectra
from .gramians import UnusableSystem, energy_rank, gramians
from .hankel import Decomposition, hankel_singular_values, spectrum
from .moments import Moments
from .pieces import BlockTruncation
from .ranks import (
    METHODS,
    BlockDecomposition,
    Method,
    Scope,
    SystemDecomposition,
    given_orders,
    ranks,
    shared,
    sharing,
)
from .real import Realness
from .regularizer import hankel_nuclear_norm, regularizer_flops
from .selective import SelectiveDecomposition, StateSelection
from .selective.decompose import selective_decompositions
from .selective.stand_ins import StandIn, is_of_selective
from .stacks import Orders, StackDecomposition, StackTruncation
from .truncate import Keep, orders_within, truncate
from .weighting import Calibration, Refit, Weighting, weighted_decompositions, weighting_of

__all__ = [
    "METHODS",
    "BlockDecomposition",
    "BlockTruncation",
    "Calibration",
    "Decomposition",
    "Keep",
    "Method",
    "Moments",
    "Order",
    "Orders",
    "Realness",
    "Refit",
    "Scope",
    "SelectiveDecomposition",
    "StackDecomposition",
    "StackTruncation",
    "StandIn",
    "StateSelection",
    "SystemDecomposition",
    "Truncation",
    "TruncationError",
    "UnusableSystem",
    "Weighting",
    "balanced_truncation",
    "decompositions",
    "energy_rank",
    "given_orders",
    "gramians",
    "hankel_nuclear_norm",
    "hankel_singular_values",
    "is_of_selective",
    "layers",
    "orders_within",
    "ranks",
    "regularizer_flops",
    "selective_decompositions",
    "shared",
    "sharing",
    "spectra",
    "spectrum",
    "truncate",
    "weighted_decompositions",
    "weighting_of",
]
