"""A backbone one step at a time: what it remembers between steps, and the step.

In evaluation mode the logits are those of the parallel form on the sequence so far; for a
classification that is the mean pool over the steps up to now, equal at the last step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from .precision import products

if TYPE_CHECKING:
    from .backbone import Backbone
    from .layers.lru import LRU


@dataclass(frozen=True)
class System:
    """An LRU layer as a step needs it: `decay` (N,) complex, `into` (H, 2 N) and `out` (2 N, H)
    real, where states are pairs of real and imaginary part, `through` (H,), its D, and `gain`
    (H, H), its static gain transposed, if it has one."""

    decay: torch.Tensor
    into: torch.Tensor
    out: torch.Tensor
    through: torch.Tensor
    gain: torch.Tensor | None = None


@dataclass(frozen=True)
class State:
    """What a model remembers of the steps so far; a step gives a new one and leaves it alone.

    hidden: per block (sequences, N) complex; a paired example has two sequences.
    pool: (sequences, H), the sum of the last block's outputs; None where nothing is pooled.
    steps: how many there were.
    systems: of every block, from the weights that the model had when the state was begun.
    """

    hidden: tuple[torch.Tensor, ...]
    pool: torch.Tensor | None
    steps: int
    systems: tuple[System, ...]

    @property
    def bytes(self) -> int:
        """Memory of what changes from step to step, of all its sequences."""
        kept = [*self.hidden] + ([] if self.pool is None else [self.pool])
        return sum(tensor.numel() * tensor.element_size() for tensor in kept)


@torch.no_grad()
def initial_state(model: Backbone, batch: int, device: torch.device | str | None = None) -> State:
    """The state of `batch` examples before their first step, on `device` or the model's own.

    Raises:
        ValueError: a batch below 1.
    """
    if batch < 1:
        raise ValueError(f"a batch must be at least 1, not {batch}")
    sequences = batch * (2 if model.info.paired else 1)
    layers: list[LRU] = [block.ssm for block in model.blocks]  # type: ignore[union-attr,misc]
    systems = tuple(system_of(layer, device) for layer in layers)
    hidden = tuple(one.decay.new_zeros(sequences, len(one.decay)) for one in systems)
    pool = None
    if model.info.pools:
        pool = systems[0].through.new_zeros(sequences, model.spec.width)
    return State(hidden, pool, 0, systems)


def system_of(layer: LRU, device: torch.device | str | None) -> System:
    """The layer's system in the precision of its parameters, worked out in double precision."""
    through = layer.D.detach().to(device)
    dtype = through.dtype
    eigenvalues, B, C = (array.to(device) for array in layer.system())
    return System(
        decay=eigenvalues.to(torch.complex128 if dtype == torch.float64 else torch.complex64),
        into=torch.view_as_real(B.mT.contiguous()).flatten(-2).to(dtype),
        out=torch.view_as_real(C.mH.resolve_conj().contiguous())
        .mT.reshape(-1, len(through))
        .to(dtype),
        through=through,
        gain=None if layer.gain is None else layer.gain.detach().to(device).mT.contiguous(),
    )


def step(model: Backbone, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
    """(logits (batch, outputs), the state after this step), without gradients.

    Args:
        x: (batch,) integer tokens or (batch, inputs) floats; paired: (batch, 2[, inputs]).

    Raises:
        ValueError: a model in training mode, whose norms and dropout look at whole batches, or
            an input of another shape than the state.
    """
    if model.training:
        raise ValueError("recurrent mode needs a model in evaluation mode: call model.eval()")
    wanted = _shape(model, state)
    if x.shape != wanted:
        raise ValueError(f"a step of this state takes x of shape {wanted}, not {tuple(x.shape)}")
    with torch.no_grad():
        return _step(model, x.flatten(0, 1) if model.info.paired else x, state)


def _step(model: Backbone, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
    features = model.encoder(x)
    hidden = []
    for block, system, h in zip(model.blocks, state.systems, state.hidden, strict=True):
        u = block.norm(features)  # type: ignore[operator,union-attr]
        h = system.decay * h + torch.view_as_complex((u @ system.into).unflatten(-1, (-1, 2)))
        y = torch.addcmul(torch.view_as_real(h).flatten(-2) @ system.out, system.through, u)
        if system.gain is not None:
            y = torch.addmm(y, u, system.gain)
        with products(model.spec.precision, u.device):
            features = block.mix(features, y)  # type: ignore[operator,union-attr]
        hidden.append(h)
    pool, steps = state.pool, state.steps + 1
    if pool is not None:
        pool = pool + features
        features = pool / steps
    return model.read_out(features), replace(state, hidden=tuple(hidden), pool=pool, steps=steps)


def _shape(model: Backbone, state: State) -> tuple[int, ...]:
    sequences = len(state.hidden[0])
    examples = (sequences // 2, 2) if model.info.paired else (sequences,)
    return examples if model.info.inputs is None else (*examples, model.info.inputs)
