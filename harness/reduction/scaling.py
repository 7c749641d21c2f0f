"""How large each state of a reduced system is, which its outputs do not depend on.

With any d_i > 0 in place of 1, (lambda_i, d_i B_i, C_i / d_i) is the same system. Training can tell
them apart: a step of Adam is of one size for every parameter, whatever the parameter's own size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch

from .balanced import Truncation
from .stacks import StackTruncation

Scaling = Literal["gramians", "equal"]


def scaled(systems: Mapping[int, Any], done: Mapping[int, Any], scaling: Scaling) -> dict[int, Any]:
    """The truncations of some blocks, by their index, with their states as large as `scaling` says.

    `gramians`: as the Gramians have them by which the states were balanced: each is then as well
    controllable as it is observable, in their units. `equal`: B_i, the input's scale included, and
    C_i have the same 2-norm, so that each mode alone has equal Gramians under white noise.

    A system of a stack that has kept its order keeps its states as they are; and so does a state
    that B or C does not reach.

    systems: what the truncations were made from, by block.
    """
    if scaling == "gramians":
        return dict(done)
    return {i: _equal(systems[i], one) for i, one in done.items()}


def _equal(block: Any, done: Any) -> Any:
    if not isinstance(done, StackTruncation):
        return rescaled(done, balance(done))
    pairs = zip(block.systems, done.systems, strict=True)
    return StackTruncation(
        tuple(
            one if one.order == full.state_dim else rescaled(one, balance(one))
            for full, one in pairs
        )
    )


def balance(one: Truncation) -> torch.Tensor:
    """(r,) float64, what states are to be multiplied by for B_i and C_i of equal 2-norm; 1 where
    either is zero."""
    inputs = torch.linalg.vector_norm(torch.as_tensor(one.B), dim=1)
    outputs = torch.linalg.vector_norm(torch.as_tensor(one.C), dim=0)
    there = (inputs > 0) & (outputs > 0)
    return torch.where(there, outputs / torch.where(there, inputs, 1.0), 1.0).sqrt()


def rescaled(one: Truncation, by: torch.Tensor) -> Truncation:
    """The same system, its states multiplied by these numbers (r,), and the maps to and from it."""
    rows = by[:, None]
    maps = {
        "T": one.T / by,
        "W": one.W * rows,
        "T_conj": None if one.T_conj is None else one.T_conj / by,
        "W_conj": None if one.W_conj is None else one.W_conj * rows,
    }
    return replace(one, B=one.B * rows, C=one.C / by, **maps)
