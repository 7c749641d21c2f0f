"""Encoder, blocks, head: the backbone around any state-space layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import gelu

from harness.tasks.base import TaskInfo

from . import recurrent
from .gated import gated
from .layers.lru import LRU
from .norm import NORMS
from .precision import products
from .recurrent import State
from .scans import Choice, choose


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


class Block(nn.Module):
    """x + dropout(mixer(dropout(gelu(ssm(norm(x)))))), (batch, length, H) to the same.

    With `mixer="linear"` there is no activation and no gate: the mixer is one matrix, and with
    `norm="none"` the block is a linear system.
    """

    def __init__(
        self,
        ssm: nn.Module,
        width: int,
        norm: str,
        mixer: str,
        dropout: float,
        dropout_mask: str = "each",
    ):
        super().__init__()
        self.norm = NORMS[norm](width)
        self.ssm = ssm
        self.linear = mixer == "linear"
        if self.linear:
            self.mixer = nn.Linear(width, width, bias=False)
        else:
            self.glu = GLU(width)
        self.dropout = SharedDropout(dropout) if dropout_mask == "shared" else nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mix(x, self.ssm(self.norm(x)))

    def mix(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The block's output from its input x and its state-space layer's output y."""
        if self.linear:
            return x + self.dropout(self.mixer(y))
        if self._fuses(y):
            return gated(x, y, *self.glu.joined())
        y = self.dropout(gelu(y, approximate="tanh"))
        return x + self.dropout(self.glu(y))

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


class Backbone(nn.Module):
    """(batch, length, inputs) float or (batch, length) integer tokens to logits.

    Classification, and regression of one answer, pools over all steps, padding included, and
    gives (batch, outputs); other kinds give (batch, length, outputs). Paired tasks take (batch, 2,
    length[, inputs]).
    """

    def __init__(self, spec: Any, info: TaskInfo):
        super().__init__()
        self.spec, self.info = spec, info
        width = spec.width
        if info.vocabulary is not None:
            self.encoder: nn.Module = nn.Embedding(info.vocabulary, width)
        else:
            self.encoder = nn.Linear(info.inputs or 1, width)
        self.blocks = nn.ModuleList(
            Block(
                LRU(width, n, spec.r_min, spec.r_max, spec.backend, spec.remember),
                width,
                spec.norm,
                spec.mixer,
                spec.dropout,
                spec.dropout_mask,
            )
            for n in spec.state_dims
        )
        if info.paired:
            self.dual = DualHead(width, info.outputs)
        else:
            self.head = nn.Linear(width, info.outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.info.paired:
            x = x.flatten(0, 1)
        h = self.encoder(x)
        with products(self.spec.precision, h.device):
            for block in self.blocks:
                h = block(h)
        if self.info.pools:
            h = h.sum(1) / h.shape[1]  # whose gradient is a view, where that of a mean is a copy
        return self.read_out(h)

    def read_out(self, h: torch.Tensor) -> torch.Tensor:
        """Logits from what the blocks, or the pool over them, give; of a pair from both rows."""
        if self.info.paired:
            return self.dual(h.reshape(-1, 2 * h.shape[-1]))
        return self.head(h)

    def initial_state(self, batch: int, device: torch.device | str | None = None) -> State:
        """Recurrent mode: the state of `batch` examples before their first step."""
        return recurrent.initial_state(self, batch, device)

    def step(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Recurrent mode: (logits (batch, outputs) as of this step, the state after it).

        x is one step of `forward`'s input: (batch,) tokens or (batch, inputs), paired (batch, 2)
        or (batch, 2, inputs). Evaluation mode only.
        """
        return recurrent.step(self, x, state)

    @property
    def state_dims(self) -> list[int]:
        """N of every block, in complex states."""
        return [block.ssm.state_dim for block in self.blocks]  # type: ignore[union-attr,misc]

    def backends(self, batch: int, device: torch.device | str) -> list[Choice]:
        """What computes each block's scan at this batch size and the task's length, and why."""
        return choices(self.spec, self.info, self.state_dims, batch, device)

    def resize(self, state_dims: Sequence[int]) -> None:
        """Empty layers of these state dimensions, to load stored weights into."""
        for block, n in zip(self.blocks, state_dims, strict=True):
            block.ssm.resize(n)  # type: ignore[union-attr,operator]


def choices(
    spec: Any, info: TaskInfo, state_dims: Sequence[int], batch: int, device: torch.device | str
) -> list[Choice]:
    """What computes each block's scan, of a model that need not be there yet, and why.

    Raises:
        ValueError: a backend asked for by name that cannot run here.
    """
    sequences = batch * (2 if info.paired else 1)
    return [
        choose(
            spec.backend,
            width=spec.width,
            state_dim=n,
            length=info.length,
            batch=sequences,
            device=device,
        )
        for n in state_dims
    ]
