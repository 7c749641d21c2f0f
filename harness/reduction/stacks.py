"""A block of many systems: their decompositions, and their truncations, as those of one block.

The systems of a stack lie side by side: system s reads inputs of its own and writes outputs of its
own, so that the block's transfer function is block-diagonal, G = diag(G_1, ..., G_S). The largest
singular value of a block-diagonal matrix is the largest of its blocks', at every frequency, hence

    ||G - G_r||_inf = max_s ||G_s - G_{r,s}||_inf <= max_s 2 sum_{i > r_s} sigma_{s,i}:

the bound of the block is the largest of its systems' bounds, not their sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch

from harness.models.orders import Order

from .balanced import Truncation
from .gramians import energy_rank
from .hankel import Decomposition
from .real import RealDecomposition

System = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
Orders = Literal["ragged", "common", "largest"]


@dataclass(frozen=True)
class StackDecomposition:
    """The decompositions of a block's S systems, each of its own order, without any padding, and
    how energy ranks are shared out among them (see `stack_ranks`)."""

    systems: tuple[Decomposition | RealDecomposition, ...]
    orders: Orders = "ragged"

    @property
    def state_dim(self) -> int:
        """The order of the largest system: what the block's parameters are padded to."""
        return max(self.order)

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The order of every system."""
        return tuple(one.state_dim for one in self.systems)

    @cached_property
    def hsv(self) -> torch.Tensor:
        """Hankel singular values, system by system, each descending: (sum of orders,) float64."""
        return torch.cat([one.hsv for one in self.systems])

    @cached_property
    def mode_shares(self) -> torch.Tensor:
        """Mode shares, system by system, each in parameter order: (sum of orders,) float64."""
        return torch.cat([one.mode_shares for one in self.systems])

    def energy_rank(self, tau: float) -> Order:
        """For every system the order that discards a fraction tau of its own energy, or as
        `orders` says.

        A system without any energy keeps one state, or all with tau = 0, like the others.

        Raises:
            ValueError: as `energy_rank`; a block of which no system has any energy.
        """
        return stack_ranks([one.hsv for one in self.systems], tau, self.orders)


def stack_ranks(
    worths: Sequence[torch.Tensor], tau: float, orders: Orders = "ragged"
) -> tuple[int, ...]:
    """The energy rank of every system of a block by what its states are worth.

    orders: `ragged`, every system its own, at which it discards a fraction tau of its own energy;
    `largest`, the largest of these for all; `common`, the rank for all at which they discard that
    fraction of the energy of all of them together. A system that has fewer states keeps those.

    Raises as `StackDecomposition.energy_rank`.
    """
    if orders == "common":
        ranked = [one.sort(descending=True).values for one in worths]
        n = max(map(len, ranked))
        together = sum(torch.nn.functional.pad(one, (0, n - len(one))) for one in ranked)
        assert isinstance(together, torch.Tensor)
        return tuple(min(energy_rank(together, tau), len(one)) for one in ranked)
    found = _own_ranks(worths, tau)
    return found if orders == "ragged" else level(found, [len(one) for one in worths])


def level(order: Sequence[int], now: Sequence[int]) -> tuple[int, ...]:
    """The largest of these orders for every system, or all its states if it has fewer."""
    return tuple(min(max(order), n) for n in now)


def _own_ranks(worths: Sequence[torch.Tensor], tau: float) -> tuple[int, ...]:
    if tau == 0.0 or not any(bool(one.any()) for one in worths):
        energy_rank(torch.cat(list(worths)), tau)  # refuses a block without energy
    return tuple(
        energy_rank(one, tau) if bool(one.any()) else (len(one) if tau == 0.0 else 1)
        for one in worths
    )


@dataclass(frozen=True)
class StackTruncation:
    """The truncations of a block's S systems, from at most N states to at most r = `order`.

    Padded arrays are zero beyond a system's own order: `eigenvalues` (S, r), `B` (S, r, I), `C`
    (S, O, r), `T` (S, N, r), `W` (S, r, N), and where there is one `gain` (S, O, I); see
    `Truncation`. `modes` (S, r) are those selected, padded with 0, or None.
    """

    systems: tuple[Truncation, ...]
    output_error: float | None = None  # relative, of the whole block, if measured

    @property
    def order(self) -> int:
        """The order of the largest system."""
        return max(self.orders)

    @cached_property
    def orders(self) -> tuple[int, ...]:
        """The order of every system."""
        return tuple(one.order for one in self.systems)

    @property
    def error_bound(self) -> float | None:
        """Of the block in the H-infinity norm: the largest of the systems' own (see the module);
        None where one has none."""
        bounds = [one.error_bound for one in self.systems]
        known = [bound for bound in bounds if bound is not None]
        return max(known) if len(known) == len(bounds) else None

    @property
    def stabilised(self) -> str | None:
        """What took the place of an unstable projection, in any of the systems."""
        return next((one.stabilised for one in self.systems if one.stabilised), None)

    @property
    def poles_moved(self) -> float | None:
        """How far at most a pole of any of the systems was moved; None if none was."""
        found = [one.poles_moved for one in self.systems if one.poles_moved is not None]
        return max(found, default=None)

    @property
    def refit(self) -> str | None:
        """What was fitted to calibration data, in any of the systems."""
        return next((one.refit for one in self.systems if one.refit), None)

    @property
    def energy_kept(self) -> float:
        """The kept share of the Hankel singular values (or mode shares) of all systems together."""
        energies = [float(one.hsv.sum()) for one in self.systems]
        kept = (one.energy_kept * e for one, e in zip(self.systems, energies, strict=True))
        return sum(kept) / sum(energies)

    @property
    def condition(self) -> float:
        """The largest of the systems' own."""
        return max(one.condition for one in self.systems)

    @cached_property
    def hsv(self) -> torch.Tensor:
        """Of the full systems, system by system, each descending: (sum of orders,) float64."""
        return torch.cat([one.hsv for one in self.systems])

    @cached_property
    def eigenvalues(self) -> torch.Tensor:
        return _padded([one.eigenvalues for one in self.systems])

    @cached_property
    def B(self) -> torch.Tensor:
        return _padded([one.B for one in self.systems])

    @cached_property
    def C(self) -> torch.Tensor:
        return _padded([one.C for one in self.systems])

    @cached_property
    def T(self) -> torch.Tensor:
        return _padded([one.T for one in self.systems])

    @cached_property
    def W(self) -> torch.Tensor:
        return _padded([one.W for one in self.systems])

    @cached_property
    def T_conj(self) -> torch.Tensor | None:
        return self._of_conjugates([one.T_conj for one in self.systems], self.T)

    @cached_property
    def W_conj(self) -> torch.Tensor | None:
        return self._of_conjugates([one.W_conj for one in self.systems], self.W)

    def _of_conjugates(self, given: list, like: torch.Tensor) -> torch.Tensor | None:
        """Padded like T or W, zero for systems that stay; None where no system is real."""
        if all(one is None for one in given):
            return None
        found = torch.zeros_like(like)
        for target, one in zip(found, given, strict=True):
            if one is not None:
                target[: one.shape[0], : one.shape[1]] = one
        return found

    @cached_property
    def gain(self) -> torch.Tensor | None:
        given = [one.gain for one in self.systems]
        some = next((gain for gain in given if gain is not None), None)
        if some is None:
            return None
        return torch.stack([torch.zeros_like(some) if gain is None else gain for gain in given])

    @cached_property
    def modes(self) -> torch.Tensor | None:
        given = [one.modes for one in self.systems if one.modes is not None]
        return _padded(given) if len(given) == len(self.systems) else None

    @property
    def kept(self) -> torch.Tensor:
        """(S, r) bool: which entries are states and which are padding."""
        return torch.arange(self.order) < torch.tensor(self.orders)[:, None]

    def without_padding(
        self, eigenvalues: torch.Tensor, B: torch.Tensor, C: torch.Tensor
    ) -> System:
        """A stack of these orders, (S, r), (S, r, I), (S, O, r), with zeros in its padding."""
        padding = ~self.kept.to(eigenvalues.device)
        return (
            eigenvalues.masked_fill(padding, 0.0),
            B.masked_fill(padding[:, :, None], 0.0),
            C.masked_fill(padding[:, None, :], 0.0),
        )


def unpadded(system: System, orders: Sequence[int]) -> list[System]:
    """The systems of a padded stack (S, N), (S, N, I), (S, O, N), each of its own order."""
    lam, B, C = system
    return [(lam[s, :n], B[s, :n], C[s, :, :n]) for s, n in enumerate(orders)]


def leading(system: Decomposition | RealDecomposition, order: int) -> Truncation:
    """The first states of a system as they are, where the others carry nothing: exact."""
    n = system.state_dim
    T = torch.eye(n, dtype=system.B.dtype, device=system.B.device)[:, :order]
    return Truncation(
        eigenvalues=system.eigenvalues[:order],
        B=system.B[:order],
        C=system.C[:, :order],
        hsv=system.hsv,
        order=order,
        error_bound=0.0,
        T=T,
        W=T.mT,
        condition=1.0,
        modes=torch.arange(order, device=system.hsv.device),
    )


def _padded(arrays: Sequence[torch.Tensor]) -> torch.Tensor:
    """Arrays of different sizes in one, (S, ...), with zeros beyond each."""
    shape = [max(sizes) for sizes in zip(*(array.shape for array in arrays), strict=True)]
    found = arrays[0].new_zeros(len(arrays), *shape)
    for target, array in zip(found, arrays, strict=True):
        target[tuple(slice(size) for size in array.shape)] = array
    return found
