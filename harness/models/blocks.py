"""What stands around a layer: norm, gated mixer, dropout; and the head of paired tasks."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import gelu

from .gated import gated
from .layers.base import Layer
from .norm import NORMS


class GLU(nn.Module):
    """w1(x) * sigmoid(w2(x)), both H to H with bias."""

    def __init__(self, width: int):
        super().__init__()
        self.w1 = nn.Linear(width, width)
        self.w2 = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.w1(x) * torch.sigmoid(self.w2(x))

    def joined(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Both layers as one, (2 H, H) and (2 H,)."""
        return (
            torch.cat([self.w1.weight, self.w2.weight]),
            torch.cat([self.w1.bias, self.w2.bias]),
        )


class SharedDropout(nn.Dropout):
    """Dropout whose mask, (length, H), is the same for every example of the batch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0.0:
            return x
        mask = x.new_empty((1, *x.shape[1:])).bernoulli_(1.0 - self.p)
        return x * mask / (1.0 - self.p)


class TiedDropout(nn.Dropout):
    """Dropout whose mask, (batch, 1, H), is the same at every step: channels go, not steps."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0.0:
            return x
        mask = x.new_empty((len(x), 1, *x.shape[2:])).bernoulli_(1.0 - self.p)
        return x * mask / (1.0 - self.p)


HALVES = ("half_glu1", "half_glu2")
DROPOUTS: dict[str, type[nn.Dropout]] = {
    "each": nn.Dropout,
    "shared": SharedDropout,
    "tied": TiedDropout,
}


class Block(nn.Module):
    """x + dropout(mixer(dropout(gelu(ssm(norm(x)))))), (batch, length, H) to the same.

    The halves of a GLU, of S5's authors, have one matrix and a bias: with y = ssm(norm(x)) and
    g = dropout(gelu(y)), `half_glu1` is g * sigmoid(W g + b) and `half_glu2` y * sigmoid(W g + b).

    With `mixer="linear"` there is no activation and no gate: the mixer is one matrix, and with
    `norm="none"` the block is a linear system. With `mixer="none"` nothing follows the layer, which
    has a gate of its own: x + dropout(ssm(norm(x))).
    """

    def __init__(
        self,
        ssm: Layer,
        width: int,
        norm: str,
        mixer: str,
        dropout: float,
        dropout_mask: str = "each",
    ):
        super().__init__()
        self.norm = NORMS[norm](width)
        self.ssm = ssm
        self.kind = mixer
        if mixer == "linear":
            self.mixer = nn.Linear(width, width, bias=False)
        elif mixer == "glu":
            self.glu = GLU(width)
        elif mixer in HALVES:
            self.gate = nn.Linear(width, width)
        self.dropout = DROPOUTS[dropout_mask](dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mix(x, self.ssm(self.norm(x)))

    def mix(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The block's output from its input x and its layer's output y."""
        if self.kind == "none":
            return x + self.dropout(y)
        if self.kind == "linear":
            return x + self.dropout(self.mixer(y))
        if self.kind == "glu" and self._fuses(y):
            return gated(x, y, *self.glu.joined())
        g = self.dropout(gelu(y, approximate="tanh"))
        if self.kind in HALVES:
            through = g if self.kind == "half_glu1" else y
            return x + self.dropout(through * torch.sigmoid(self.gate(g)))
        return x + self.dropout(self.glu(g))

    def _fuses(self, y: torch.Tensor) -> bool:
        """Whether nothing happens between the steps of the gated half: no mask, no cast."""
        masked = self.training and self.dropout.p > 0.0
        return not masked and not torch.is_autocast_enabled(y.device.type)


class DualHead(nn.Module):
    """Three layers over the pooled features of two documents, 2H to H to H/2 to outputs."""

    def __init__(self, width: int, outputs: int):
        super().__init__()
        self.layer1 = nn.Linear(2 * width, width)
        self.layer2 = nn.Linear(width, width // 2)
        self.layer3 = nn.Linear(width // 2, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer3(torch.relu(self.layer2(torch.relu(self.layer1(x)))))
