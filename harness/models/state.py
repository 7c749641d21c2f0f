"""What a backbone remembers between steps in recurrent mode."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .layers.base import LayerState


@dataclass(frozen=True)
class State:
    """What a model remembers of the steps so far; a step gives a new one and leaves it alone.

    layers: of every block; by the weights that the model had when the state was begun.
    sequences: how many go on side by side; a paired example has two.
    pool: (sequences, H), the sum of the last block's outputs; None where nothing is pooled.
    steps: how many there were.
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
