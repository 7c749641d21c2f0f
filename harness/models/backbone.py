"""Encoder, blocks, head: the backbone around any layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from harness.tasks.base import TaskInfo

from .blocks import Block, DualHead
from .layers.base import Choice, Layer
from .norm import NORMS
from .precision import products
from .specs import BackboneSpec
from .state import State


class Backbone(nn.Module):
    """(batch, length, inputs) float or (batch, length) integer tokens to logits.

    Classification, and regression of one answer, pools over all steps, padding included, and
    gives (batch, outputs); other kinds give (batch, length, outputs). Paired tasks take (batch, 2,
    length[, inputs]).

    After blocks whose authors have it so comes one more norm, as in the stacks of Mamba.
    """

    def __init__(self, spec: BackboneSpec, info: TaskInfo):
        super().__init__()
        self.spec, self.info = spec, info
        width = spec.width
        if info.vocabulary is not None:
            self.encoder: nn.Module = nn.Embedding(info.vocabulary, width)
        else:
            self.encoder = nn.Linear(info.inputs or 1, width)
        layer = spec.layer_class()
        self.blocks = nn.ModuleList(
            Block(
                layer.of(spec, n),
                width,
                *spec.surroundings,
                spec.dropout,
                spec.dropout_mask,
            )
            for n in spec.state_dims
        )
        norm, _ = spec.surroundings
        self.last_norm = NORMS[norm if spec.ends_with_norm else "none"](width)
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
        h = self.last_norm(h)
        if self.info.pools:
            h = h.sum(1) / h.shape[1]  # whose gradient is a view, where that of a mean is a copy
        return self.read_out(h)

    def read_out(self, h: torch.Tensor) -> torch.Tensor:
        """Logits from what the blocks, or the pool over them, give; of a pair from both rows."""
        if self.info.paired:
            return self.dual(h.reshape(-1, 2 * h.shape[-1]))
        return self.head(h)

    def initial_state(self, batch: int, device: torch.device | str | None = None) -> State:
        """Recurrent mode: the state of `batch` examples before their first step, on `device` or the
        model's own.

        Raises:
            ValueError: a batch below 1.
        """
        if batch < 1:
            raise ValueError(f"a batch must be at least 1, not {batch}")
        sequences = batch * (2 if self.info.paired else 1)
        layers = tuple(layer.initial_state(sequences, device) for layer in self.layers)
        pool = None
        if self.info.pools:
            parameter = next(self.parameters())
            pool = parameter.new_zeros(sequences, self.spec.width, device=device)
        return State(layers, sequences, pool, 0)

    def step(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Recurrent mode: (logits (batch, outputs) as of this step, the state after it), without
        gradients.

        The logits are those of `forward` on the sequence so far; for a classification that is the
        mean pool over the steps up to now, equal at the last step.

        Args:
            x: one step of `forward`'s input: (batch,) tokens or (batch, inputs); paired: (batch, 2)
                or (batch, 2, inputs).

        Raises:
            ValueError: a model in training mode, whose norms and dropout look at whole batches, or
                an input of another shape than the state.
        """
        if self.training:
            raise ValueError("recurrent mode needs a model in evaluation mode: call model.eval()")
        wanted = self._step_shape(state)
        if x.shape != wanted:
            raise ValueError(
                f"a step of this state takes x of shape {wanted}, not {tuple(x.shape)}"
            )
        with torch.no_grad():
            return self._step(x.flatten(0, 1) if self.info.paired else x, state)

    def _step(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        features, layers = self.encoder(x), []
        for block, before in zip(self.blocks, state.layers, strict=True):
            y, after = block.ssm.step(block.norm(features), before)  # type: ignore[union-attr,operator]
            with products(self.spec.precision, features.device):
                features = block.mix(features, y)  # type: ignore[operator,union-attr]
            layers.append(after)
        features = self.last_norm(features)
        pool, steps = state.pool, state.steps + 1
        if pool is not None:
            pool = pool + features
            features = pool / steps
        after_it = replace(state, layers=tuple(layers), pool=pool, steps=steps)
        return self.read_out(features), after_it

    def _step_shape(self, state: State) -> tuple[int, ...]:
        sequences = state.sequences
        examples = (sequences // 2, 2) if self.info.paired else (sequences,)
        return examples if self.info.inputs is None else (*examples, self.info.inputs)

    @property
    def layers(self) -> list[Layer]:
        """The layer of every block."""
        return [block.ssm for block in self.blocks]  # type: ignore[union-attr,misc]

    @property
    def state_dims(self) -> list[int]:
        """The state dimension of every block."""
        return [layer.state_dim for layer in self.layers]

    def backends(self, batch: int, device: torch.device | str) -> list[Choice]:
        """The backend of each layer at this batch size and the task's length, and why."""
        return choices(self.spec, self.info, self.state_dims, batch, device)

    def resize(self, state_dims: Sequence[int]) -> None:
        """Empty layers of these state dimensions, to load stored weights into."""
        for layer, n in zip(self.layers, state_dims, strict=True):
            layer.resize(n)


def choices(
    spec: BackboneSpec,
    info: TaskInfo,
    state_dims: Sequence[int],
    batch: int,
    device: torch.device | str,
) -> list[Choice]:
    """The backend of each block's layer, and why, for a model that need not exist yet.

    Raises:
        ValueError: a backend asked for by name that cannot run here.
    """
    layer, sequences = spec.layer_class(), batch * (2 if info.paired else 1)
    return [
        layer.backend_of(spec, n, length=info.length, batch=sequences, device=device)
        for n in state_dims
    ]
