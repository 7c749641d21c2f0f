"""What the loss expects to lose with each state: the second-order Taylor saliency of pruning.

A rival to Hankel shares, after the state pruning of "On Pruning State-Space LLMs" (arXiv
2502.18886). A state goes by zeroing what its B and C are made of. With g the mean over examples of
the gradients of their losses, and F the mean of the squares, the diagonal of the empirical Fisher
matrix in place of the Hessian's, the loss without a weight w is expected to change by
-g w + w^2 F / 2, so that a state is worth

    sum over its weights of |g w - w^2 F / 2|,

which is LLM-Pruner's mixed element-wise importance (arXiv 2305.11627), summed over the group.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..gramians import UnusableSystem
from ..weighting.calibration import Calibration, listen_both_ways


class Saliencies:
    """Gradients of a layer's weights of states, `removed_rows`, and their squares, summed over
    examples in double precision.

    Raises:
        ValueError: a layer that does not say which weights these are.
    """

    def __init__(self, layer: Any):
        named = type(layer).__name__
        if not getattr(layer, "removed_rows", ()):
            raise ValueError(f"selective 'taylor' needs the `removed_rows` of {named}")
        self.layer, self.examples = layer, 0
        self.weights = [layer.get_parameter(name) for name in layer.removed_rows]
        self.gradients = [torch.zeros_like(w, dtype=torch.float64) for w in self.weights]
        self.squares = [torch.zeros_like(one) for one in self.gradients]
        self.heard = torch.empty(0)

    @property
    def channels(self) -> int:
        """D, of all heads."""
        rates = self.layer.rates
        return len(rates) * (self.layer.head_dim if rates.dim() == 1 else 1)

    def hear(self, u: torch.Tensor) -> None:
        """The layer's input on a batch, (batch, length, H)."""
        self.heard = u

    def add(self, g: torch.Tensor) -> None:
        """The gradients of the examples' losses by its output on that batch, of the same shape:
        through the layer once more, example by example, since squares are of single ones."""
        wanted = [w.requires_grad for w in self.weights]
        try:
            for w in self.weights:
                w.requires_grad_(True)
            for u, of_output in zip(self.heard.split(1), g.split(1), strict=True):
                y = self.layer(u)
                found = torch.autograd.grad(y, self.weights, of_output.to(y.dtype))
                for one, sums, squares in zip(found, self.gradients, self.squares, strict=True):
                    sums += one
                    squares += one.double().square()
        finally:
            for w, before in zip(self.weights, wanted, strict=True):
                w.requires_grad_(before)
        self.examples += len(g)

    def solved(self, how: str) -> int:
        """How many systems are decomposed: none."""
        return 0

    @torch.no_grad()
    def shares(self, how: str) -> torch.Tensor:
        """Saliencies of the states, (N,) float64; (G, N) of a layer with heads.

        Raises:
            UnusableSystem: gradients that are not finite.
            ValueError: gradients that are all zero.
        """
        found = torch.zeros((), dtype=torch.float64)
        axes = 2 if self.layer.rates.dim() == 1 else 1  # (G, N), or (N,), and those of a state
        for w, sums, squares in zip(self.weights, self.gradients, self.squares, strict=True):
            g, F = sums / self.examples, squares / self.examples
            loss = (g * w - 0.5 * w.double().square() * F).abs()
            found = loss.view(*loss.shape[:axes], -1).sum(-1) + found.to(loss.device)
        if not bool(torch.isfinite(found).all()):
            raise UnusableSystem("the gradients over the calibration examples must be finite")
        if not bool(found.any()):
            raise ValueError("the loss has no gradients by B and C on the calibration examples")
        return found


def look_back(
    model: nn.Module, sums: dict[int, Saliencies], layers: Any, calibration: Calibration
) -> None:
    """Fill the sums of these layers from one pass over the calibration batches and back. No
    parameter's gradient is touched, nor the generators, nor what dropout and norms remember.

    Raises:
        ValueError: no loss, or as `listen_both_ways`.
    """
    if calibration.loss is None:
        raise ValueError("selective 'taylor' needs `loss`, and calibration batches (x, y)")
    listen_both_ways(
        model, layers, calibration,
        lambda i, u: sums[i].hear(u), lambda i, g: sums[i].add(g), "loss",
    )  # fmt: skip
