"""What the states of a selective layer are worth, and a choice of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch

from ..gramians import energy_rank
from ..modes import best


@runtime_checkable
class SelectiveLayer(Protocol):
    """What a selective layer must offer to be truncated: recurrences of N = `state_dim` states, of
    which `rates` is A, and `selection(u)` the rest for an input u (batch, length, H): a `Selection`
    where A is (D, N), a `HeadSelection` where it is a number for each head (see
    `harness.models.layers.selection`). `keep_modes(modes)` removes all states but these, (r,)
    indices, from every channel; with heads also (G, r), other states in every one of its
    `groups`. `transports`, empty, and `restarts` say what becomes of moments where states change
    their basis.

    Where its `basis` is "free" it is a stack of systems, `orders`, that `project` gives others (see
    `harness.models.layers.basis`).

    It may name in `removed_rows` the parameters that a state's B and C are made of, (N, ...) or (G,
    N, ...), so that zeroing its rows removes it: for `selective` `taylor`.
    """

    @property
    def state_dim(self) -> int: ...

    @property
    def rates(self) -> torch.Tensor: ...

    def selection(self, u: torch.Tensor) -> Any: ...

    def keep_modes(self, modes: torch.Tensor) -> None: ...


@dataclass(frozen=True)
class SelectiveDecomposition:
    """The Hankel shares of a layer's N states, summed over its D channels; or (G, N) of the states
    of every group of heads, summed over its channels.

    mode_shares, float64: of the system that stands in for each channel, the real diagonal of
    (P Q)^(1/2) (`Decomposition.mode_shares`), which sums to its Hankel singular values. rates: A of
    the layer as it was. channels: D. solved: how many systems were decomposed for it. By method
    `activation` shares are what states add to the outputs (see `Activations`); by `taylor` see
    `Saliencies`, by `drrqr` `PivotedDecomposition`.

    It answers to what ranks ask of a block of one system: what a state is worth, `hsv`, is its
    share, or 0 where that is negative. Of groups, each keeps as many states, the best of its own:
    the n-th value is what the n-th states of all groups are worth together.
    """

    mode_shares: torch.Tensor
    rates: torch.Tensor
    channels: int
    solved: int

    @property
    def systems(self) -> tuple[Any, ...]:
        """What is ranked together: all channels, since a state goes from all of them or none."""
        return (self,)

    @property
    def state_dim(self) -> int:
        """N."""
        return self.mode_shares.shape[-1]

    @property
    def groups(self) -> int | None:
        """G, of a layer with heads."""
        return len(self.mode_shares) if self.mode_shares.dim() == 2 else None

    @property
    def order(self) -> int:
        """What a truncation starts from."""
        return self.state_dim

    @cached_property
    def hsv(self) -> torch.Tensor:
        """What states are worth, (N,) float64, descending."""
        worth = self.mode_shares.clamp_min(0.0).sort(descending=True).values
        return worth.view(-1, self.state_dim).sum(0)

    def energy_rank(self, tau: float) -> int:
        """The order that discards a fraction tau of what all states are worth."""
        return energy_rank(self.hsv, tau)

    def kept(self, order: int, how: str, lot: torch.Tensor | None = None) -> StateSelection:
        """The `order` states of the largest shares, of the `smallest`, or those of a `lot`, (r,),
        which are then the same in all groups.

        Raises:
            ValueError: no state is worth anything.
        """
        worth = self.mode_shares.clamp_min(0.0)
        if not bool(worth.any()):
            raise ValueError("the Hankel shares are all zero: nothing to keep")
        if lot is None:
            ranked = (-worth if how == "smallest" else worth).view(-1, self.state_dim)
            modes = torch.stack([best(one, order) for one in ranked])
            modes = modes.view(*worth.shape[:-1], order)
        else:
            modes = lot.to(worth.device).expand(*worth.shape[:-1], -1)
        kept = worth.take_along_dim(modes, -1).sum() / worth.sum()
        return StateSelection(self.hsv, modes, float(kept))


@dataclass(frozen=True)
class StateSelection:
    """Some of a selective layer's N states, as they are: what `Truncation` is to a system.

    hsv: of the full layer, (N,). modes: (r,) ascending, or (G, r) of groups. energy_kept: what
    these are worth over what all are. output_error: the relative error of the scans' output on
    held-out calibration data, if measured. Of a layer that changes with its input no bound in the
    H-infinity norm is known.
    """

    hsv: torch.Tensor
    modes: torch.Tensor
    energy_kept: float
    output_error: float | None = None

    error_bound: None = None
    condition: float = 1.0
    gain: None = None
    stabilised: None = None
    poles_moved: None = None
    refit: None = None

    @property
    def systems(self) -> tuple[Any, ...]:
        """As of `SelectiveDecomposition`."""
        return (self,)

    @property
    def order(self) -> int:
        """r."""
        return self.modes.shape[-1]

    @property
    def T(self) -> torch.Tensor:
        """(N, r), or (G, N, r), float64: from these states to all."""
        every = torch.eye(len(self.hsv), dtype=torch.float64, device=self.modes.device)
        return every[self.modes].mT
