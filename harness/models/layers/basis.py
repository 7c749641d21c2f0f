"""A basis of its own for the states of a selective layer: maps from what it projects to them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection

import torch
from torch import nn

BASES = ("own", "free")


class FreeBasis(nn.Module):
    """What layers share that are S systems whose states may change their basis, `basis` "free".

    B and C are then projected to M features, as many as a new layer has states. A truncation
    leaves maps `B_map` and `C_map`, (S, N, M) buffers, from features to the N states of each
    system, and applies them at run time (as arXiv 2510.02823, appendix E, is understood); without
    one states are the features. `orders` (S,) int64 says how many states of each system are there;
    the rows of the maps beyond them are zero. All three are None in the basis "own".
    """

    orders: torch.Tensor | None
    B_map: torch.Tensor | None
    C_map: torch.Tensor | None

    def begin_basis(self, basis: str, systems: int, state_dim: int) -> None:
        """The buffers of a new layer.

        Raises:
            ValueError: a basis that does not exist.
        """
        if basis not in BASES:
            raise ValueError(f"basis must be one of {', '.join(BASES)}, not {basis!r}")
        orders = torch.full((systems,), state_dim) if basis == "free" else None
        self.register_buffer("orders", orders)
        self.register_buffer("B_map", None)
        self.register_buffer("C_map", None)

    @property
    def basis(self) -> str:
        """Whether a truncation removes states as they are, "own", or changes their basis."""
        return "own" if self.orders is None else "free"

    @property
    @abstractmethod
    def state_dim(self) -> int:
        """The states of the largest system."""

    @property
    @abstractmethod
    def features(self) -> int:
        """M, the rows of B_proj and C_proj of each system."""

    def _check_own(self) -> None:
        """Raise `ValueError` in a free basis."""
        if self.basis == "free":
            raise ValueError(
                f"{type(self).__name__} in a free basis keeps no states as they are: `project` it"
            )

    @torch.no_grad()
    def _project(self, W: torch.Tensor, T: torch.Tensor, orders: torch.Tensor) -> None:
        """From now on states are W (S, r, N) times those of before, and T (S, N, r) goes back."""
        assert self.orders is not None
        like = self.get_parameter("B_proj")
        for name, change in (("B_map", W), ("C_map", T.mT)):
            old, change = getattr(self, name), change.to(like.device, torch.float64)
            made = change if old is None else change @ old.double()
            setattr(self, name, made.to(like.dtype).contiguous())
        self.orders = orders.to(self.orders.device, copy=True)

    def _resize_basis(self, state_dim: int) -> None:
        """Empty buffers of another size, where states are others than the features."""
        assert self.orders is not None
        self.orders = torch.full_like(self.orders, state_dim)
        self._make_maps(state_dim if state_dim < self.features else None)

    def expect(self, stored: Collection[str]) -> None:
        """Maps where they are stored, none where they are not."""
        if self.orders is not None:
            self._make_maps(self.state_dim if "B_map" in stored else None)

    def _make_maps(self, states: int | None) -> None:
        """Empty ones to so many states; none for None."""
        assert self.orders is not None
        like = self.get_parameter("B_proj").detach()
        for name in ("B_map", "C_map"):
            made = None
            if states is not None:
                made = like.new_empty(len(self.orders), states, self.features)
            setattr(self, name, made)
