"""The spec of gated recurrent units."""

from __future__ import annotations

from typing import ClassVar, Literal

from .base import BackboneSpec


class GRUSpec(BackboneSpec):
    """Gated recurrent units of `state_dim` hidden states, and a projection back to the width: a
    baseline without any linear system (Cho et al. 2014, arXiv 1406.1078; as `torch.nn.GRU`)."""

    implementation: ClassVar[str] = "harness.models.layers.gru:GRU"

    kind: Literal["gru"] = "gru"

    def layer_flops(self, state_dim: int) -> int:
        """6 n (H + n) for the three gates, 2 n H for the projection, and 7 n for what the gates do
        to the state; biases and activations count nothing, as in the mixer."""
        n, H = state_dim, self.width
        return 6 * n * (H + n) + 2 * n * H + 7 * n

    def layer_parameters(self, state_dim: int) -> int:
        """Three gates with two biases each, and the projection."""
        n, H = state_dim, self.width
        return 3 * n * (H + n + 2) + H * (n + 1)
