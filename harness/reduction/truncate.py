"""Truncate the layers of a model in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch
from torch import nn

from .arrays import Array
from .balanced import Truncation, TruncationError, reduce, reduce_smallest
from .change import change
from .gramians import gramians
from .hankel import Decomposition, decompose
from .modes import best, drawn, scores, select
from .moments import Moments, check_moments, check_optimizer
from .parallel import side_by_side, workers
from .ranks import Method, check_energy, check_method, given_orders, naming_block, rank_by_tau
from .singular_perturbation import residualise

Keep = Literal["largest", "smallest", "random"]


@runtime_checkable
class StateSpaceLayer(Protocol):
    """What a layer must offer to be truncated.

    After `assign`, `system` must be what was assigned. A layer may also offer

    - `keep_modes(modes)`, to slice its parameters where modes are selected, so that they stay what
      they are to the bit;
    - `add_gain(gain)`, to add Re(gain) u to its output with a parameter `gain` beside one named D;
    - `transports`, the names of those of its parameters B_re, B_im (N, H) and C_re, C_im (H, N)
      whose moments follow a change of basis, where B = exp(gamma_log) (B_re + i B_im), or without
      gamma_log if it has none, and C = C_re + i C_im; and `restarts`, the names of those whose
      moments start again.
    """

    @property
    def state_dim(self) -> int: ...

    def system(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]: ...

    def assign(self, eigenvalues: torch.Tensor, B: torch.Tensor, C: torch.Tensor) -> None: ...


def layers(model: nn.Module) -> list[Any]:
    """The state-space layers of a model, a user's own too, in order.

    Raises:
        ValueError: the model has none.
    """
    found = [m for m in model.modules() if isinstance(m, StateSpaceLayer)]
    if not found:
        raise ValueError(f"{type(model).__name__} has no state-space layer to truncate")
    return found


def decompositions(model: nn.Module) -> list[Decomposition]:
    """What the spectrum and a truncation of each layer need; layers of one size in one batch.

    Raises:
        UnusableSystem: a layer's system is not finite or not stable; names the block.
    """
    return list(_decomposed(dict(enumerate(layers(model)))).values())


def _decomposed(chosen: dict[int, Any]) -> dict[int, Decomposition]:
    """The decompositions of some layers by the index of their block."""
    systems = {i: layer.system() for i, layer in chosen.items()}
    alike: dict[Any, list[int]] = {}
    for i, system in systems.items():
        shapes = tuple(tuple(array.shape) for array in system)
        alike.setdefault((shapes, system[0].device), []).append(i)
    found: dict[int, Decomposition] = {}
    for (shapes, device), members in alike.items():
        stacks = [torch.stack(parts) for parts in zip(*(systems[i] for i in members), strict=True)]
        try:
            some = _decomposed_stack(stacks, workers(shapes[0][0], device))
        except ValueError:
            for i, system in systems.items():  # one of them: which?
                with naming_block(i):
                    gramians(*system)
            raise
        found |= dict(zip(members, some, strict=True))
    return {i: found[i] for i in systems}


def _decomposed_stack(stacks: list[torch.Tensor], at_once: int) -> list[Decomposition]:
    """Systems of one size, in as many batches as are worked on at a time."""
    parts = min(at_once, len(stacks[0]))
    split = (stack.detach().to(torch.complex128).tensor_split(parts) for stack in stacks)
    batches = side_by_side(lambda arrays: decompose(*arrays), list(zip(*split, strict=True)), parts)
    return [one for batch in batches for one in batch.unstack()]


def spectra(model: nn.Module) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """For each layer its Hankel singular values and mode shares, float64, (N,) each.

    Raises:
        UnusableSystem: a layer's system is not finite or not stable; names the block.
    """
    return [(one.hsv, one.mode_shares) for one in decompositions(model)]


def truncate(
    model: nn.Module,
    *,
    tau: float | None = None,
    state_dims: int | Sequence[int] | Array | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    moments: Moments = "transport",
    decomposed: Sequence[Decomposition] | None = None,
    method: Method = "balanced",
    keep: Keep = "largest",
    generator: np.random.Generator | None = None,
) -> list[Truncation]:
    """Truncation of every layer, in place; a block at its rank already stays untouched.

    Args:
        tau: fraction of the method's energy to discard, per block; or
        state_dims: the order of every block, or one per block, in any sequence or array.
        optimizer: follows the new parameters; its moments are carried as `moments` says.
        decomposed: what `decompositions` gave for the model as it is now, to save the work.
        method: `balanced` truncation; balanced `singular_perturbation`, which adds a static gain;
            or the best modes as they are, by the scores `last`, `aire`, `modal`, or at `random`.
        keep: of method balanced, for ablation: the `smallest` balanced states, or `random` modes
            of the unbalanced system (method random, at the ranks of method balanced).
        generator: draws random modes, one draw per block that changes, in order.

    Returns:
        One `Truncation` per block that changed, in order. A failure leaves the model as it was.

    Raises:
        ValueError: not exactly one of tau and state_dims, or, naming the block, an order
            outside 1..N, an unusable system (`UnusableSystem`), a reduced system without a
            usable diagonal form (`TruncationError`), a layer that takes no static gain, that is
            not what it was assigned, that shares a parameter with another module, or does not say
            what becomes of its moments; an optimizer whose moments are not Adam's, or of another
            model; decompositions of another model, or from before a step; a method or `keep` that
            does not exist, or chance without a generator.
    """
    found = layers(model)
    how = _how(method, keep, generator)
    wanted = _wanted(found, tau, state_dims)
    if tau is not None:
        check_energy(method)
    if optimizer is not None:
        check_moments(optimizer, moments)
        check_optimizer(optimizer, model, found)
    moving = {i: layer for i, layer in enumerate(found) if wanted[i] != layer.state_dim}
    systems = _decomposed(moving) if decomposed is None else _given(decomposed, found)
    orders = {i: _rank(i, systems[i], wanted[i], tau, method) for i in moving}
    orders = {i: order for i, order in orders.items() if order != found[i].state_dim}
    if how == "singular_perturbation":
        _check_gains({i: found[i] for i in orders})
    truncations = _all_reduced(systems, orders, how, generator)
    change(model, found, dict(zip(orders, truncations, strict=True)), optimizer, moments)
    return truncations


def _given(decomposed: Sequence[Decomposition], found: list[Any]) -> dict[int, Decomposition]:
    """The caller's decompositions by block. Raises ValueError where they are of other systems."""
    if len(decomposed) != len(found) or not all(map(_is_of, decomposed, found)):
        raise ValueError("the decompositions are not those of the model as it is now")
    return dict(enumerate(decomposed))


def _is_of(one: Decomposition, layer: Any) -> bool:
    now = (array.detach().to(torch.complex128) for array in layer.system())
    given = (one.eigenvalues, one.B, one.C)
    return all(a.device == b.device and torch.equal(a, b) for a, b in zip(given, now, strict=True))


def _all_reduced(
    systems: Mapping[int, Decomposition],
    orders: Mapping[int, int],
    how: str,
    generator: np.random.Generator | None,
) -> list[Truncation]:
    """The reductions of the blocks in `orders`, in order; an error names its block."""
    lots = {}
    if how == "random":
        assert generator is not None
        lots = {i: drawn(len(systems[i].hsv), n, generator) for i, n in orders.items()}

    def reduced(i: int) -> Truncation:
        with naming_block(i):
            return _reduced(systems[i], orders[i], how, lots.get(i))

    at_once = min((workers(n, systems[i].hsv.device) for i, n in orders.items()), default=1)
    return side_by_side(reduced, list(orders), at_once)


def _how(method: str, keep: str, generator: np.random.Generator | None) -> str:
    """The method, or `smallest`, or `random`, of a call that makes sense."""
    check_method(method)
    if keep not in get_args(Keep):
        raise ValueError(f"keep must be one of {', '.join(get_args(Keep))}, not {keep!r}")
    if keep != "largest" and method != "balanced":
        raise ValueError(f"keep={keep!r} is an ablation of method 'balanced', not of {method!r}")
    how = method if keep == "largest" else keep
    if how == "random" and generator is None:
        raise ValueError("random modes need a generator (numpy.random.default_rng)")
    return how


def _reduced(system: Decomposition, order: int, how: str, lot: torch.Tensor | None) -> Truncation:
    if how == "balanced":
        return reduce(system, order)
    if how == "smallest":
        return reduce_smallest(system, order)
    if how == "singular_perturbation":
        return residualise(system, order)
    return select(system, best(scores(system, how), order) if lot is None else lot)


def _check_gains(changing: dict[int, Any]) -> None:
    for i, layer in changing.items():
        if not hasattr(layer, "add_gain"):
            raise ValueError(
                f"block {i}: method 'singular_perturbation' needs a static gain, and "
                f"{type(layer).__name__} has no add_gain"
            )


def _wanted(
    found: list, tau: float | None, state_dims: int | Sequence[int] | Array | None
) -> Sequence[int | None]:
    """The orders asked for, checked; None where only the spectrum can tell."""
    if (tau is None) == (state_dims is None):
        raise ValueError("give exactly one of tau and state_dims")
    sizes = [layer.state_dim for layer in found]
    if state_dims is None:
        return sizes if tau == 0.0 else [None] * len(sizes)
    return given_orders(sizes, state_dims)


def _rank(i: int, system: Decomposition, wanted: int | None, tau: float | None, method: str) -> int:
    if wanted is not None:
        return wanted
    assert tau is not None
    return rank_by_tau(i, system, tau, method)


__all__ = ["TruncationError", "decompositions", "layers", "spectra", "truncate"]
