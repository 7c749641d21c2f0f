"""The same layers by others, where they are installed: forward and backward on the same batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Peer:
    """A package that has a layer of this kind, and how to make a call that trains it once."""

    name: str
    make: Callable[[Any, int, torch.Tensor], Callable[[], Any]]

    def passes(self, spec: Any, states: int, u: torch.Tensor) -> Callable[[], Any] | None:
        """A forward and a backward pass, with gradients of the input and of every parameter; None
        where the package, or what it needs, is not installed."""
        try:
            return self.make(spec, states, u)
        except ImportError:
            return None


def _mambapy(spec: Any, states: int, u: torch.Tensor) -> Callable[[], Any]:
    from mambapy.mamba import MambaBlock, MambaConfig

    config = MambaConfig(
        d_model=spec.width, n_layers=1, dt_rank=spec.rank, d_state=states,
        expand_factor=spec.expand, d_conv=spec.conv,
    )  # fmt: skip
    block, x = MambaBlock(config), u.clone().requires_grad_()
    return lambda: block(x).square().sum().backward()


def _discretax(make: Callable[[Any, Any, int], Any]) -> Any:
    def passes(spec: Any, states: int, u: torch.Tensor) -> Callable[[], Any]:
        import equinox
        import jax

        key = jax.random.key(0)
        mixer, x = make(spec, key, 2 * states), jax.numpy.asarray(u.numpy())

        def loss(pair: Any) -> Any:
            layer, batch = pair
            return (jax.vmap(lambda one: layer(one, key))(batch) ** 2).sum()

        step = equinox.filter_jit(equinox.filter_value_and_grad(loss))
        return lambda: jax.block_until_ready(step((mixer, x)))

    return passes


def _s5(spec: Any, key: Any, states: int) -> Any:
    from discretax.sequence_mixers.s5 import S5SequenceMixer

    return S5SequenceMixer(spec.width, key, state_dim=states, ssm_blocks=spec.hippo_blocks)


def _s4d(spec: Any, key: Any, states: int) -> Any:
    from discretax.sequence_mixers.s4d import S4DSequenceMixer

    return S4DSequenceMixer(spec.width, key, state_dim=states)


PEERS = {
    "mamba": Peer("mambapy", _mambapy),
    "s5": Peer("discretax", _discretax(_s5)),
    "s4d": Peer("discretax", _discretax(_s4d)),
}
