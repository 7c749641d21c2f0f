"""How many states each layer keeps: by energy, by given sizes, or by a budget shared out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import torch

from harness.models.orders import Order, each, largest, regroup

from .arrays import Array
from .balanced import is_order
from .gramians import energy_rank
from .hankel import Decomposition
from .modes import scores
from .naming import naming_block, naming_system
from .real import RealDecomposition
from .selective import SelectiveDecomposition
from .stacks import Orders, StackDecomposition, level, stack_ranks

SystemDecomposition = Decomposition | RealDecomposition
Ranked = SystemDecomposition | SelectiveDecomposition
BlockDecomposition = Ranked | StackDecomposition
Method = Literal["balanced", "singular_perturbation", "last", "aire", "modal", "random"]
Scope = Literal["layer", "global"]
METHODS: tuple[str, ...] = get_args(Method)
OF_STATES = ("balanced", "singular_perturbation")  # whose states are balanced ones, worth an HSV
MEASURED = ("balanced", "last", "aire")  # whose worth of a state weighted Gramians can measure
Found = TypeVar("Found")
AIRE_EPS = 1e-12  # the paper adds an eps of unknown size against 0 / 0
BISECTIONS = 100


def ranks(
    decomposed: Sequence[BlockDecomposition],
    *,
    method: Method = "balanced",
    scope: Scope = "layer",
    tau: float | None = None,
    state_dims: int | Sequence[Any] | Array | None = None,
    mean_dim: float | None = None,
    generator: np.random.Generator | None = None,
) -> list[Any]:
    """For each layer the order to truncate to, at least 1 and at most its N: an int, or of a stack
    a tuple with one for each of its systems.

    Which states those are is the method's own affair (`truncate`): the best by the same worth,
    Hankel singular values for `balanced` and `singular_perturbation`, otherwise the mode scores.

    Args:
        decomposed: what `decompositions` gave for the model.
        scope: "layer": `tau` is the fraction of a layer's worth to discard, `mean_dim` one rank,
            its whole part, for all that have so many; in a stack both are per system. "global":
            worths compete across layers, as `_by_tau` and `_by_budget` say; each system of a stack
            takes part as a layer of its own.
        tau, state_dims, mean_dim: exactly one of them; state_dims are per layer by nature.
        generator: draws for method `random` with scope `global`.

    Raises:
        ValueError: not exactly one of the three; an unknown method or scope; a rank or budget
            below 1 or above the model's; tau for a method without energy; a missing generator.
    """
    check_method(method)
    if scope not in get_args(Scope):
        raise ValueError(f"scope must be one of {', '.join(get_args(Scope))}, not {scope!r}")
    if sum(given is not None for given in (tau, state_dims, mean_dim)) != 1:
        raise ValueError("give exactly one of tau, state_dims and mean_dim")
    orders = [one.order for one in decomposed]
    if state_dims is not None:
        if scope == "global":
            raise ValueError("state_dims are per layer: scope 'global' shares out tau or mean_dim")
        return given_orders(orders, state_dims)
    if mean_dim is not None:
        check_budget([one.state_dim for block in decomposed for one in block.systems], mean_dim)
        if scope == "layer":
            at_most = math.floor(mean_dim)
            return [each(order, lambda n: min(n, at_most)) for order in orders]
    elif scope == "layer":
        assert tau is not None
        return [rank_by_tau(i, one, tau, method) for i, one in enumerate(decomposed)]
    return _across(decomposed, method, tau, mean_dim, generator)


def _across(
    decomposed: Sequence[BlockDecomposition],
    method: str,
    tau: float | None,
    mean_dim: float | None,
    generator: np.random.Generator | None,
) -> list[Order]:
    """Scope `global`: all systems of all blocks compete.

    Those of a stack that have no energy keep one state each and leave the rest to the others.
    """
    places = [
        (i, s if isinstance(block, StackDecomposition) else None, one)
        for i, block in enumerate(decomposed)
        for s, one in enumerate(block.systems)
    ]
    takes_part = [place is None or bool(one.hsv.any()) for _, place, one in places]
    taking_part = list(itertools.compress(places, takes_part))
    if tau is not None:
        found = _by_tau(taking_part, method, tau)
    else:
        assert mean_dim is not None
        # 4.35 x 100 is 434.99... in binary
        total = math.floor(mean_dim * len(places) + 1e-9) - (len(places) - len(taking_part))
        found = _by_budget(taking_part, method, total, generator)
    rest = iter(found)
    counts = [next(rest) if takes else 1 for takes in takes_part]
    return regroup(counts, [one.order for one in decomposed])


def check_method(method: str) -> None:
    """Raise `ValueError` for a method that does not exist."""
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method!r}")


def check_budget(sizes: Sequence[int], mean_dim: float) -> None:
    """Raise `ValueError` unless a mean of 1 state a layer <= mean_dim <= the model's own mean."""
    if not (math.isfinite(mean_dim) and mean_dim >= 1.0):
        raise ValueError(f"mean_dim must be a number from 1 upwards, not {mean_dim}")
    mean = sum(sizes) / len(sizes)
    if mean_dim > mean:
        raise ValueError(
            f"mean_dim {mean_dim:g} is a budget larger than the model: "
            f"its {len(sizes)} blocks have {mean:g} states on average"
        )


def given_orders(now: Sequence[Order], state_dims: int | Sequence[Any] | Array) -> list[Order]:
    """One given order per block, checked against those it has; a single number is every block's.

    For a stack a number n is n states of each system, or all where it has fewer; or its systems'
    orders are given one by one.
    """
    given: Any = _plain(state_dims)
    orders = list(given) if isinstance(given, Sequence) else [given] * len(now)
    if len(orders) != len(now):
        raise ValueError(f"{len(orders)} state dimensions for {len(now)} blocks")
    found = []
    for i, (order, of_block) in enumerate(zip(orders, now, strict=True)):
        with naming_block(i):
            found.append(_given_order(_plain(order), of_block))
    return found


def _plain(given: Any) -> Any:
    return given.tolist() if hasattr(given, "tolist") else given


def _given_order(order: Any, now: Order) -> Order:
    if isinstance(now, tuple) and isinstance(order, Sequence):
        if len(order) != len(now):
            raise ValueError(f"{len(order)} orders for a stack of {len(now)} systems")
        for s, (one, n) in enumerate(zip(order, now, strict=True)):
            with naming_system(s):
                _check_order(one, n)
        return tuple(map(int, order))
    _check_order(order, largest(now))
    return each(now, lambda n: min(n, int(order)))


def _check_order(order: Any, n: int) -> None:
    if not is_order(order, n):
        raise ValueError(f"order must be from 1 to {n}, not {order}")


def rank_by_tau(i: int, block: BlockDecomposition, tau: float, method: str) -> Order:
    """The energy rank of block i by the method's worths, in a stack that of each system."""
    check_energy(method)
    with naming_block(i):
        if isinstance(block, StackDecomposition):
            return stack_ranks([worths(one, method) for one in block.systems], tau, block.orders)
        return energy_rank(worths(block, method), tau)


def sharing(blocks: Sequence[BlockDecomposition], orders: Orders) -> list[BlockDecomposition]:
    """The blocks, with energy ranks of stacks shared out so."""
    return [
        replace(one, orders=orders) if isinstance(one, StackDecomposition) else one
        for one in blocks
    ]


def shared(found: Sequence[Order], now: Sequence[Order], orders: Orders) -> list[Order]:
    """Orders of blocks, of a stack levelled to its largest unless they may be ragged."""
    return [
        level(order, was)
        if orders != "ragged" and isinstance(order, tuple) and isinstance(was, tuple)
        else order
        for order, was in zip(found, now, strict=True)
    ]


def check_energy(method: str) -> None:
    """Raise `ValueError` for a method whose worths are no energy that tau could discard."""
    if method in ("modal", "random"):
        raise ValueError(f"method {method!r} has no energy for tau to discard: give sizes")


def worths(system: Ranked, method: str) -> torch.Tensor:
    """What each state (descending) or mode (parameter order) is worth, (N,) float64."""
    if isinstance(system, SelectiveDecomposition) or method in OF_STATES:
        return system.hsv
    return scores(system, method)


Place = tuple[int, int | None, Any]  # block, place in a stack if it is one, system


def _by_tau(places: Sequence[Place], method: str, tau: float) -> list[int]:
    """Across layers by a threshold.

    Balanced states: the HSVs, each divided by its layer's sum, are pooled, and the weakest go as
    long as what goes sums to at most tau x layers; for one layer that is its energy rank. LAST and
    AIRE: the modes whose normalised score is at least tau stay.
    """
    check_energy(method)
    # Per layer first: its checks, with its name.
    alone = _named(places, lambda one: energy_rank(worths(one, method), tau))
    if tau == 0.0:
        return alone
    systems = [one for _, _, one in places]
    if method in OF_STATES:
        shares = [one.hsv / one.hsv.sum() for one in systems]
        total = energy_rank(torch.cat([share.cpu() for share in shares]), tau)
        return _shared_out(shares, total, at_least_one=False)
    return [max(1, int((_normalised(one, method) >= tau).sum())) for one in systems]


def _by_budget(
    places: Sequence[Place],
    method: str,
    total: int,
    generator: np.random.Generator | None,
) -> list[int]:
    """Across layers, at most `total` states in all, floor(mean_dim x layers).

    Balanced states: one common fraction of energy to retain, as high as the budget allows (HSVR,
    arXiv 2510.22951). LAST, AIRE: the best by normalised score. modal: the largest |eigenvalue|.
    random: by lot.
    """
    if method in OF_STATES:
        return _common_fraction(places, total)
    if method == "random":
        if generator is None:
            raise ValueError("method 'random' needs a generator (numpy.random.default_rng)")
        lots = [torch.from_numpy(generator.random(one.state_dim)) for _, _, one in places]
        return _shared_out([lot.sort(descending=True).values for lot in lots], total)
    ranked = _descending if method == "modal" else _normalised
    return _shared_out(_named(places, lambda one: ranked(one, method)), total)


def _named(
    places: Sequence[Place], function: Callable[[SystemDecomposition], Found]
) -> list[Found]:
    """The function of every system; an error names block and system."""
    found = []
    for i, place, one in places:
        with naming_block(i), naming_system(place):
            found.append(function(one))
    return found


def _common_fraction(places: Sequence[Place], total: int) -> list[int]:
    """Energy ranks at the smallest common tau that needs at most `total` states, by bisection."""

    def at(tau: float) -> list[int]:
        return _named(places, lambda one: energy_rank(one.hsv, tau))

    kept = at(0.0)
    if sum(kept) <= total:
        return kept
    low, high = 0.0, math.nextafter(1.0, 0.0)  # one state each at the latter
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        low, high = (low, middle) if sum(at(middle)) <= total else (middle, high)
    return at(high)


def _descending(system: SystemDecomposition, method: str) -> torch.Tensor:
    """The method's mode scores, (N,) float64, from the largest down."""
    return scores(system, method).sort(descending=True).values


def _normalised(system: SystemDecomposition, method: str) -> torch.Tensor:
    """LAST's and AIRE's scores, comparable across layers, (N,) float64, descending.

    Each is divided by the sum of those up to and including it, from the largest down.
    """
    ranked = _descending(system, method)
    eps = AIRE_EPS if method == "aire" else 0.0
    sums = ranked.cumsum(0) + eps
    return torch.where(sums > 0.0, ranked / sums, 0.0)


def _shared_out(ranked: Sequence[torch.Tensor], total: int, at_least_one: bool = True) -> list[int]:
    """How many of the `total` best of all layers are in each; of equal ones the earlier layer's.

    Args:
        ranked: each layer's values, descending. No layer goes empty.
        at_least_one: whether that is within the total, or on top of it.
    """
    values = torch.cat([one.cpu() for one in ranked])
    owner = torch.repeat_interleave(torch.tensor([len(one) for one in ranked]))
    if at_least_one:
        first = torch.cat([torch.arange(len(one)) for one in ranked]) == 0
        values = torch.where(first, torch.inf, values)
    chosen = torch.argsort(values, descending=True, stable=True)[:total]
    counts = torch.bincount(owner[chosen], minlength=len(ranked))
    return counts.clamp_min(1).tolist()
