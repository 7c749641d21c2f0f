"""How many states each layer keeps: by energy, by given sizes, or by a budget shared out."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch

from .arrays import Array
from .balanced import TruncationError, is_order
from .gramians import UnusableSystem, energy_rank
from .hankel import Decomposition
from .modes import scores

Method = Literal["balanced", "singular_perturbation", "last", "aire", "modal", "random"]
Scope = Literal["layer", "global"]
METHODS: tuple[str, ...] = get_args(Method)
OF_STATES = ("balanced", "singular_perturbation")  # whose states are balanced ones, worth an HSV
AIRE_EPS = 1e-12  # the paper adds an eps of unknown size against 0 / 0
BISECTIONS = 100


def ranks(
    decomposed: Sequence[Decomposition],
    *,
    method: Method = "balanced",
    scope: Scope = "layer",
    tau: float | None = None,
    state_dims: int | Sequence[int] | Array | None = None,
    mean_dim: float | None = None,
    generator: np.random.Generator | None = None,
) -> list[int]:
    """For each layer the order to truncate to, at least 1 and at most its N.

    Which states those are is the method's own affair (`truncate`): the best by the same worth,
    Hankel singular values for `balanced` and `singular_perturbation`, otherwise the mode scores.

    Args:
        decomposed: what `decompositions` gave for the model.
        scope: "layer": `tau` is the fraction of a layer's worth to discard, `mean_dim` one rank,
            its whole part, for all that have so many. "global": worths compete across layers, as
            `_by_tau` and `_by_budget` say.
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
    sizes = [len(one.hsv) for one in decomposed]
    if state_dims is not None:
        if scope == "global":
            raise ValueError("state_dims are per layer: scope 'global' shares out tau or mean_dim")
        return given_orders(sizes, state_dims)
    if mean_dim is not None:
        check_budget(sizes, mean_dim)
        if scope == "layer":
            return [min(n, math.floor(mean_dim)) for n in sizes]
        return _by_budget(decomposed, method, mean_dim, generator)
    assert tau is not None
    if scope == "layer":
        return [rank_by_tau(i, one, tau, method) for i, one in enumerate(decomposed)]
    return _by_tau(decomposed, method, tau)


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


def given_orders(sizes: Sequence[int], state_dims: int | Sequence[int] | Array) -> list[int]:
    """One given order per block, checked against the sizes; a single number is every block's."""
    given: Any = state_dims.tolist() if hasattr(state_dims, "tolist") else state_dims
    orders = list(given) if isinstance(given, Sequence) else [given] * len(sizes)
    if len(orders) != len(sizes):
        raise ValueError(f"{len(orders)} state dimensions for {len(sizes)} blocks")
    for i, (order, n) in enumerate(zip(orders, sizes, strict=True)):
        if not is_order(order, n):
            raise ValueError(f"block {i}: order must be from 1 to {n}, not {order}")
    return [int(order) for order in orders]


@contextlib.contextmanager
def naming_block(i: int) -> Iterator[None]:
    """A `ValueError` from inside says which block it speaks of."""
    try:
        yield
    except ValueError as error:
        # Only our own kinds are known to be made from a message.
        ours = isinstance(error, (UnusableSystem, TruncationError))
        kind = type(error) if ours else ValueError
        raise kind(f"block {i}: {error}") from error


def rank_by_tau(i: int, system: Decomposition, tau: float, method: str) -> int:
    """The energy rank of block i by the method's worths."""
    check_energy(method)
    with naming_block(i):
        return energy_rank(worths(system, method), tau)


def check_energy(method: str) -> None:
    """Raise `ValueError` for a method whose worths are no energy that tau could discard."""
    if method in ("modal", "random"):
        raise ValueError(f"method {method!r} has no energy for tau to discard: give sizes")


def worths(system: Decomposition, method: str) -> torch.Tensor:
    """What each state (descending) or mode (parameter order) is worth, (N,) float64."""
    return system.hsv if method in OF_STATES else scores(system, method)


def _by_tau(decomposed: Sequence[Decomposition], method: str, tau: float) -> list[int]:
    """Across layers by a threshold.

    Balanced states: the HSVs, each divided by its layer's sum, are pooled, and the weakest go as
    long as what goes sums to at most tau x layers; for one layer that is its energy rank. LAST and
    AIRE: the modes whose normalised score is at least tau stay.
    """
    check_energy(method)
    # Per layer first: its checks, with its name.
    each = [rank_by_tau(i, one, tau, method) for i, one in enumerate(decomposed)]
    if tau == 0.0:
        return each
    if method in OF_STATES:
        shares = [one.hsv / one.hsv.sum() for one in decomposed]
        total = energy_rank(torch.cat([share.cpu() for share in shares]), tau)
        return _shared_out(shares, total, at_least_one=False)
    return [max(1, int((_normalised(one, method) >= tau).sum())) for one in decomposed]


def _by_budget(
    decomposed: Sequence[Decomposition],
    method: str,
    mean_dim: float,
    generator: np.random.Generator | None,
) -> list[int]:
    """Across layers, at most floor(mean_dim x layers) states in all.

    Balanced states: one common fraction of energy to retain, as high as the budget allows (HSVR,
    arXiv 2510.22951). LAST, AIRE: the best by normalised score. modal: the largest |eigenvalue|.
    random: by lot.
    """
    total = math.floor(mean_dim * len(decomposed) + 1e-9)  # 4.35 x 100 is 434.99... in binary
    if method in OF_STATES:
        return _common_fraction([one.hsv for one in decomposed], total)
    if method == "random":
        if generator is None:
            raise ValueError("method 'random' needs a generator (numpy.random.default_rng)")
        lots = [torch.from_numpy(generator.random(len(one.hsv))) for one in decomposed]
        return _shared_out([lot.sort(descending=True).values for lot in lots], total)
    ranked = _descending if method == "modal" else _normalised
    each = []
    for i, one in enumerate(decomposed):
        with naming_block(i):
            each.append(ranked(one, method))
    return _shared_out(each, total)


def _common_fraction(spectra: Sequence[torch.Tensor], total: int) -> list[int]:
    """Energy ranks at the smallest common tau that needs at most `total` states, by bisection."""

    def at(tau: float) -> list[int]:
        found = []
        for i, hsv in enumerate(spectra):
            with naming_block(i):
                found.append(energy_rank(hsv, tau))
        return found

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


def _descending(system: Decomposition, method: str) -> torch.Tensor:
    """The method's mode scores, (N,) float64, from the largest down."""
    return scores(system, method).sort(descending=True).values


def _normalised(system: Decomposition, method: str) -> torch.Tensor:
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
