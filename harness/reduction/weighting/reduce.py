"""Square-root truncation of a system by weighted Gramians."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import torch

from ..balanced import (
    Truncation,
    TruncationError,
    check_diagonal_form,
    eigenvectors,
    numerical_rank,
    project,
)
from .measured import WeightedDecomposition
from .poles import nearest_stable, slowest
from .stability import made_stable

LOST = 1e-6  # of the balanced system's peak gain, that its diagonal form may miss


def reduce_weighted(system: WeightedDecomposition, order: int) -> Truncation:
    """Keep the `order` largest weighted states; where those form an unstable system, or one without
    a usable diagonal form, what the weighting's `stability` says. `.stabilised` then says so.

    There is no H-infinity bound: `error_bound` is None. Raises `TruncationError` where neither has
    a diagonal form.
    """
    try:
        return _kept(system, order)
    except TruncationError:
        if system.weighting.stability == "projected":
            with contextlib.suppress(TruncationError):  # other poles mend no diagonal form
                return _kept(system, order, slowest(system))
        # The spectrum that sizes were chosen by is the one to record.
        other, how = made_stable(system)
        return replace(_kept(other, order), hsv=system.hsv, stabilised=how)


def _kept(system: WeightedDecomposition, order: int, radius: float | None = None) -> Truncation:
    """The largest states in diagonal form; with a `radius`, unstable poles moved to it."""
    r = min(int(order), numerical_rank(system.hsv, len(system.hsv)))
    balanced, T, W = project(system, slice(0, r))
    poles, X = eigenvectors(balanced[0], system.is_real)
    moved = None
    if radius is not None:
        (A, b, c), found = balanced, poles
        poles = nearest_stable(found, radius)
        balanced = A + torch.linalg.solve(X, X * (poles - found), left=False), b, c
        moved = float((poles - found).abs().max())
    singular = torch.linalg.svdvals(X)
    T, W = T @ X, torch.linalg.solve(X, W)
    reduced = (poles, W @ system.B, system.C @ T)
    inverse, condition = float(1.0 / singular[-1]), float(singular[0] / singular[-1])
    check_diagonal_form(balanced, reduced, X, inverse, LOST * peak(*reduced), condition)
    energy = float(system.hsv[:r].sum() / system.hsv.sum())
    done = Truncation(*reduced, system.hsv, r, None, T, W, condition, energy)
    return replace(done, stabilised="projected", poles_moved=moved) if moved else done


def peak(poles: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> float:
    """The largest 2-norm of the transfer function at the phases of the poles."""
    points = torch.polar(torch.ones_like(poles.real), poles.angle())
    return max(float(torch.linalg.matrix_norm((c / (z - poles)) @ b, ord=2)) for z in points)
