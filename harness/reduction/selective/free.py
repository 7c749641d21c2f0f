"""The stand-ins of a layer whose states may take any basis: one a channel, or one a group of heads.

- `mean_lti`: in each channel the mean system of arXiv 2510.02823, appendix E, balanced by itself;
- `second_moment`: second moments in place of means. In a group of heads, whose A is a number, the
  Gramians of all heads are the same but for a factor, E[B B^T] and E[C C^T].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..gramians import square_root
from ..parallel import side_by_side, workers
from ..stacks import StackDecomposition
from .curve import DecaySums
from .heads import HeadSums
from .means import Sums
from .shares import check_means, factors
from .stand_ins import StandIn


class FreeSums(Sums):
    """`Sums` over the features of a layer, and decays at other rates than its own."""

    def __init__(self, layer: Any):
        super().__init__(layer)
        self.curves = DecaySums(layer.rates.detach())

    def _take(self, dt: torch.Tensor, B: torch.Tensor, C: torch.Tensor) -> None:
        super()._take(dt, B, C)
        self.curves.add(dt)

    def decomposition(self, how: str) -> StackDecomposition:
        """The stand-ins of all channels.

        Raises:
            UnusableSystem: means that are not finite, or a state that never decays.
        """
        orders, steps = self.layer.orders.tolist(), self.steps
        check_means(self.losses, self.inputs, self.BB, self.CC)
        means, squares = self.inputs / steps, (self.squares / steps).sqrt()
        of_B, of_C = (square_root(one / steps) for one in (self.BB, self.CC))
        into, out = (_map_of(one) for one in (self.layer.B_map, self.layer.C_map))
        losses, rates = self.losses / steps, self.layer.rates.detach().double()
        curves = self.curves.curves()

        def stand_in(d: int) -> StandIn:
            n = orders[d]
            if how == "mean_lti":
                B, C = into(d, means[d, :, None]), out(d, self.outputs[:, None] / steps).mT
                given = B[:n, 0], C[0, :n]
            else:
                B, C = into(d, squares[d] * of_B), out(d, of_C).mT
                given = B[:n] @ B[:n].mT, C[:, :n].mT @ C[:, :n]
            parts = factors(losses[d, None, :n], *(one[None] for one in given))
            R, L, U, hsv, Vh = (one[0] for one in parts)
            hsv = torch.nn.functional.pad(hsv, (0, n - len(hsv)))
            system = 1.0 - losses[d, :n], B[:n], C[:, :n]
            return StandIn(
                *system, R, L, U, hsv, Vh, rates[d, :n], curves[d], features=len(self.outputs)
            )

        at_once = workers(max(orders), losses.device)
        return StackDecomposition(tuple(side_by_side(stand_in, range(len(orders)), at_once)))


class FreeHeadSums(HeadSums):
    """`HeadSums` of a layer whose groups may take any basis."""

    def decomposition(self, how: str) -> StackDecomposition:
        """The stand-ins of all groups, under `second_moment`.

        Raises:
            UnusableSystem: means that are not finite, or a head that never decays.
        """
        weights = self.size * self.roots().sum(1)
        found = []
        for g, n in enumerate(self.layer.orders.tolist()):
            B = weights[g].sqrt() * square_root(self.BB[g, :n, :n] / self.steps)
            C = weights[g].sqrt() * square_root(self.CC[g, :n, :n] / self.steps).mT
            U, hsv, Vh = torch.linalg.svd(C @ B)
            found.append(
                StandIn(
                    hsv.new_zeros(n), B, C, B, C.mT, U, hsv, Vh,
                    channels=self.channels // len(self.BB), features=self.layer.features,
                )
            )  # fmt: skip
        return StackDecomposition(tuple(found))


def _map_of(maps: torch.Tensor | None) -> Callable[[int, torch.Tensor], torch.Tensor]:
    """What takes (M, k) of features to (N, k) of a channel's states."""
    if maps is None:
        return lambda _, given: given
    return lambda d, given: maps[d].double() @ given
