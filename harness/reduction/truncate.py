"""Truncate the layers of a model in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import nn

from harness.models.orders import Order, order_of

from .arrays import Array
from .blocks import are_selective, decomposed_of, given_of, layers
from .change import change
from .moments import Moments, check_moments, check_optimizer
from .pieces import all_reduced
from .ranks import (
    BlockDecomposition,
    Method,
    check_energy,
    check_method,
    given_orders,
    rank_by_tau,
    sharing,
)
from .real import Realness
from .refusals import (
    check_gains,
    check_realness,
    check_scaling,
    check_states,
    check_weighting,
)
from .scaling import Scaling, scaled
from .selective.decompose import check_selective, selective_decompositions
from .selective.error import selective_errors
from .stacks import Orders
from .weighting.calibration import Calibration, calibration_of
from .weighting.choice import Weighting, weighting_of
from .weighting.error import output_errors
from .weighting.measured import weighted_decompositions, weighting_under
from .weighting.refit import Refit, refit_of, refitted
from .weighting.sweep import swept
from .weighting.targets import Loss
from .within import bisected

Keep = Literal["largest", "smallest", "random"]


def truncate(
    model: nn.Module,
    *,
    tau: float | None = None,
    state_dims: int | Sequence[Any] | Array | None = None,
    max_loss: float | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    moments: Moments = "transport",
    decomposed: Sequence[BlockDecomposition] | None = None,
    method: Method = "balanced",
    keep: Keep = "largest",
    generator: np.random.Generator | None = None,
    gramians: str | Weighting = "white",
    controllability: str | None = None,
    observability: str | None = None,
    sweep: str | None = None,
    calibration: Iterable[Any] | Calibration | None = None,
    loss: Loss | None = None,
    length: int | None = None,
    refit: str | Refit = "none",
    orders: Orders = "ragged",
    selective: str = "mean_modes",
    realness: Realness = "complex",
    scaling: Scaling = "gramians",
) -> list[Any]:
    """Truncate every layer in place; a block that is already at its rank is left alone.

    In a stack each system is truncated separately; systems already at their rank keep their basis.
    Selective layers lose whole states, those of the least Hankel shares over the calibration
    batches, or in a free basis balanced ones of what stands in for each channel or group (see
    `selective`); there are no other gramians, methods or refits for them.

    Args:
        tau: fraction of the method's energy to discard, per block, in a stack per system; or
        state_dims: the order of every block, or one per block, in any sequence or array. For
            a stack an order n gives each system n states, or all it has if fewer; or give a
            sequence of orders, one per system; or
        max_loss: at most so much more loss on held-out calibration batches, in the loss's units.
            Sizes are the energy ranks of the largest tau at which that holds, by bisection.
        optimizer: follows the new parameters; its moments are carried as `moments` says.
        decomposed: the result of `decompositions` for the present model, to save the work; under
            other gramians that of `weighted_decompositions`.
        method: `balanced` truncation; balanced `singular_perturbation`, which adds a static gain;
            or the best modes as they are, by the scores `last`, `aire`, `modal`, or at `random`.
        keep: for ablations of method balanced: the `smallest` balanced states, or `random` modes
            of the unbalanced system (method random, at the ranks of method balanced).
        generator: draws random modes, one draw per block that changes, in order.
        gramians: what the states are weighed by, or the modes of `last` and `aire`: `white` noise
            for all time (published); white noise over the `horizon` of `length` steps; noise that
            is white in time with the covariance of the layer's `input`; the `signal`
            of the calibration sequences; or that and how the loss looks at the outputs (`task`). Or
            a `Weighting`. `tau` is then a share of the weighted singular values, or scores.
        controllability, observability: one side in place of that of `gramians`.
        sweep: whether blocks are measured `together`, on the model as it is, or `in_order`, each
            on what the truncated blocks before it give; None: as the `Weighting` says, `together`.
        calibration: batches (x, y) or x, iterable more than once, (batch, length, ...) each. Every
            fifth, at most four, is held out to measure `output_error`. Or a `Calibration`.
            Integer labels of -100 are looked at by no target.
        loss: of (model's output, y), a scalar mean or one number per example; for `task`.
        length: steps of a sequence, for `horizon`.
        refit: what is fitted to the full layers' outputs on the calibration batches afterwards, by
            least squares, while the reduced poles stay, of any method: `C`, `BC` (B and C in turn),
            a static `gain`, `C+gain` or `BC+gain`. Or a `Refit`.
        orders: what tau and max_loss give the systems of a stack: `ragged`, each its own rank;
            `largest`, the largest of these for all, or `common`, that of the energy of all
            together.
        selective: what stands in for the system that a selective layer has not: `mean_modes`, the
            system of its mean decays, inputs and outputs over the calibration batches, or
            `second_moment`, of the second moments of the latter two; or `activation`, no system but
            what each state adds to the outputs; `taylor`, what the `loss` would lose with it; or
            `drrqr`, a choice whose B and C the others' can be made of. Where a layer's basis is
            free, what is balanced in it: `mean_lti`, the mean system of each channel, or
            `second_moment`.
        realness: whether the states are balanced as the `complex` system that they are by
            themselves (published), or with their conjugates, as the `real` one from real inputs to
            real outputs. Layers with `conjugates` are balanced so in any case, and take no `real`.
        scaling: how large the balanced states are, which changes how they train and not what they
            give: as the `gramians` have them (published), or with B and C of `equal` norm for
            every state, as training prefers (see `scaling.py`).

    Returns:
        One `Truncation` per block that changed, in order, `StackTruncation` where the block is a
        stack, or selective in a free basis; `StateSelection` where states went as they are. A
        failure leaves the model as it was.

    Raises:
        ValueError: not exactly one of tau, state_dims and max_loss, or, naming the block, an order
            outside 1..N, an unusable system (`UnusableSystem`), a reduced system without a
            usable diagonal form (`TruncationError`), a layer that takes no static gain, that is
            not what it was assigned, that shares a parameter with another module, or does not say
            what happens to its moments; an optimizer whose moments are not Adam's, or of another
            model; decompositions of another model, or from before a step; a method or `keep` that
            does not exist, or random modes without a generator; gramians that do not exist or lack
            what they need, a layer or a loss that cannot give them, calibration that is empty or
            constant; a `refit` that does not exist, or of too many unknowns; realness `real` for
            modes, which are worth the same, or for a layer that is real anyway; scaling `equal`
            for modes, which stay as they are.
    """
    found = layers(model)
    how = _how(method, keep, generator)
    asked = {} if sweep is None else {"sweep": sweep}
    weighting = weighting_of(gramians, controllability, observability, **asked)
    check_weighting(weighting, how, calibration, max_loss)
    fit = refit_of(refit)
    if fit.is_asked and calibration is None:
        raise ValueError("a refit is one to data: give `calibration` batches")
    heard = calibration_of(calibration, loss, length)
    check_selective(selective)
    check_realness(realness, method)
    check_scaling(scaling, how)
    if are_selective(found):
        check_states(how, weighting, fit, realness, scaling, calibration, decomposed is not None)
    if orders not in get_args(Orders):
        raise ValueError(f"orders must be one of {', '.join(get_args(Orders))}, not {orders!r}")
    if max_loss is not None:
        if tau is not None or state_dims is not None:
            raise ValueError("give exactly one of tau and state_dims, or max_loss alone")
        every = dict(enumerate(found))
        decomposed = list(
            _systems(
                model, found, every, decomposed, weighting, heard, selective, realness
            ).values()
        )
        decomposed = sharing(decomposed, orders)
        state_dims, _ = orders_within(model, decomposed, max_loss, heard, weighting, fit, realness)
    wanted = _wanted(found, tau, state_dims)
    if tau is not None:
        check_energy(method)
    if optimizer is not None:
        check_moments(optimizer, moments)
        check_optimizer(optimizer, model, found)
    moving = {i: layer for i, layer in enumerate(found) if wanted[i] != order_of(layer)}

    def rank(i: int, block: BlockDecomposition) -> Order:
        (block,) = sharing([block], orders)
        return _rank(i, block, wanted[i], tau, method)

    systems, done = _reduced(
        model,
        found,
        moving,
        rank,
        how,
        weighting,
        heard,
        decomposed,
        generator,
        selective,
        realness,
    )
    if fit.fits_gain:
        check_gains({i: found[i] for i in done}, f"refit {fit.fits!r}")
    done = refitted(model, dict(enumerate(found)), systems, done, fit, heard)
    if fit.is_asked or not weighting.is_white or are_selective(found):
        done = _measured(model, found, systems, done, heard.held_out)
    done = scaled(systems, done, scaling)
    change(model, found, done, optimizer, moments)
    return list(done.values())


def _reduced(
    model: nn.Module,
    found: list,
    moving: dict[int, Any],
    rank: Callable[[int, BlockDecomposition], Order],
    how: str,
    weighting: Weighting,
    heard: Calibration,
    given: Sequence[BlockDecomposition] | None,
    generator: np.random.Generator | None,
    selective: str,
    realness: Realness,
) -> tuple[dict[int, BlockDecomposition], dict[int, Any]]:
    """The decompositions of the moving blocks, and the truncations of those whose order changes."""
    if weighting.sweep == "in_order":
        known = None
        if given is not None:
            known = _systems(model, found, moving, given, weighting, heard, selective, realness)
        return swept(model, moving, rank, how, weighting, heard, known, realness)
    systems = _systems(model, found, moving, given, weighting, heard, selective, realness)
    orders = {i: rank(i, systems[i]) for i in moving}
    orders = {i: order for i, order in orders.items() if order != order_of(found[i])}
    if how == "singular_perturbation":
        check_gains({i: found[i] for i in orders}, "method 'singular_perturbation'")
    return systems, dict(zip(orders, all_reduced(systems, orders, how, generator), strict=True))


def _systems(
    model: nn.Module,
    found: list,
    chosen: dict[int, Any],
    given: Sequence[BlockDecomposition] | None,
    weighting: Weighting,
    heard: Calibration,
    selective: str,
    realness: Realness,
) -> dict[int, BlockDecomposition]:
    """The decompositions of the chosen blocks under the weighting, or the caller's of all."""
    if given is None and are_selective(found):
        return {**selective_decompositions(model, chosen, selective, heard)} if chosen else {}
    if given is None:
        white = decomposed_of(chosen, realness)
        return weighted_decompositions(model, chosen, white, weighting, heard)
    systems = given_of(given, found, realness)
    under = [weighting_under(one) for block in systems.values() for one in block.systems]
    if any(one != (None if weighting.is_white else weighting) for one in under):
        raise ValueError("the decompositions are under other gramians than those asked for")
    return systems


def orders_within(
    model: nn.Module,
    decomposed: Sequence[BlockDecomposition],
    max_loss: float,
    calibration: Calibration,
    weighting: Weighting,
    refit: Refit,
    realness: Realness = "complex",
) -> tuple[list[Order], list[tuple[Order, ...]]]:
    """The smallest energy ranks whose loss on held-out examples is at most `max_loss` above the
    model's, and all orders that were measured. See `within.bisected`, also for what it raises.

    decomposed: of all blocks of the model as it is, under the weighting and of the realness.
    """
    blind = replace(calibration, held_out=())  # a candidate's own error is not asked for

    def cut(candidate: nn.Module, orders: list[Order]) -> None:
        truncate(
            candidate,
            state_dims=orders,
            decomposed=decomposed,
            gramians=weighting,
            calibration=blind,
            refit=refit,
            realness=realness,
        )

    return bisected(model, decomposed, max_loss, calibration, cut)


def _how(method: str, keep: str, generator: np.random.Generator | None) -> str:
    """The method, `smallest` or `random`, after checking that the arguments fit together."""
    check_method(method)
    if keep not in get_args(Keep):
        raise ValueError(f"keep must be one of {', '.join(get_args(Keep))}, not {keep!r}")
    if keep != "largest" and method != "balanced":
        raise ValueError(f"keep={keep!r} is an ablation of method 'balanced', not of {method!r}")
    how = method if keep == "largest" else keep
    if how == "random" and generator is None:
        raise ValueError("random modes need a generator (numpy.random.default_rng)")
    return how


def _measured(
    model: nn.Module, found: list, systems: Any, done: dict[int, Any], held_out: Iterable[Any]
) -> dict[int, Any]:
    """The truncations with their output errors on held-out batches, if there are any."""
    if not done or next(iter(held_out), None) is None:
        return done
    every = dict(enumerate(found))
    if are_selective(found):
        errors = selective_errors(model, every, done, held_out)
    else:
        errors = output_errors(model, every, systems, done, held_out)
    return {i: replace(one, output_error=errors[i]) for i, one in done.items()}


def _wanted(
    found: list, tau: float | None, state_dims: int | Sequence[Any] | Array | None
) -> Sequence[Order | None]:
    """The orders asked for, checked; None if they depend on the spectrum."""
    if (tau is None) == (state_dims is None):
        raise ValueError("give exactly one of tau and state_dims, or max_loss alone")
    now = [order_of(layer) for layer in found]
    if state_dims is None:
        return now if tau == 0.0 else [None] * len(now)
    return given_orders(now, state_dims)


def _rank(
    i: int, block: BlockDecomposition, wanted: Order | None, tau: float | None, method: str
) -> Order:
    if wanted is not None:
        return wanted
    assert tau is not None
    return rank_by_tau(i, block, tau, method)
