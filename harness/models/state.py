"""What a backbone remembers between steps in recurrent mode."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .layers.base import LayerState


@dataclass(frozen=True)
class State:
    """What a model remembers of the steps so far; a step returns a new one and leaves it unchanged.

    layers: one per block, computed with the weights that the model had at the first step.
    sequences: how many run side by side; a paired example has two.
    pool: (sequences, H), the sum of the last block's outputs; None without pooling.
    steps: how many so far.
    """

    layers: tuple[LayerState, ...]
    sequences: int
    pool: torch.Tensor | None
    steps: int

    @property
    def bytes(self) -> int:
        """Memory of what changes from step to step, of all its sequences."""
        pool = 0 if self.pool is None else self.pool.numel() * self.pool.element_size()
        return sum(layer.bytes for layer in self.layers) + pool
