"""Giving layers their reduced systems: all of them as asked, or none, and nothing else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from harness.models.orders import order_of

from .arrays import to_complex128
from .balanced import Truncation
from .moments import Changed, Moments, carried, entries, hand_over
from .naming import naming_block
from .pieces import BlockTruncation
from .selective import SelectiveLayer, StateSelection
from .selective.stand_ins import rates_of
from .stacks import StackTruncation

ROUNDING = 1024  # units of the parameters' precision that writing a system back may cost
AT_MOST = 0.1  # of it, however coarse they are


def change(
    model: nn.Module,
    layers: Sequence[Any],
    truncations: Mapping[int, BlockTruncation],
    optimizer: torch.optim.Optimizer | None,
    moments: Moments,
) -> None:
    """Assign the truncations, by their blocks, to the model's layers; the optimizer follows.

    Raises:
        ValueError: names the block; a layer that is not what was assigned, or that shares what
            changed with another module; moments that cannot be carried. Everything is then as
            it was.
    """
    sharing = Sharing(model, layers)
    before = {i: Before(layers[i]) for i in truncations}
    plans = []
    try:
        for i, was in before.items():
            with naming_block(i):
                changed = _assigned(was, truncations[i])
                sharing.check(was, changed.old)
                if optimizer is not None:
                    plans.append((changed, carried(optimizer, changed, moments)))
    except BaseException:
        for was in before.values():
            was.restore()
        raise
    for changed, states in plans:
        assert optimizer is not None
        hand_over(optimizer, changed, states)


class Before:
    """A layer and all that it holds, to see what a call changes and to take that back."""

    def __init__(self, layer: Any):
        self.layer = layer
        self.parameters: dict[str, nn.Parameter] = dict(layer.named_parameters())
        self.frozen = {name: not p.requires_grad for name, p in self.parameters.items()}
        self.gain = getattr(layer, "gain", None)
        self.scale = _input_scale(layer)
        tensors = [*layer.parameters(), *layer.buffers()]
        self.values = {id(t): (t, t.data, t.detach().clone()) for t in tensors}
        self.keys = {id(t): _keys(t) for t in tensors}
        self.modules = [
            (vars(m), dict(vars(m)), {k: dict(vars(m)[k]) for k in ("_parameters", "_buffers")})
            for m in layer.modules()
        ]

    def value(self, parameter: torch.Tensor) -> torch.Tensor:
        """What a parameter held."""
        return self.values[id(parameter)][2]

    def changed(self) -> dict[str, nn.Parameter]:
        """The parameters, by name, that are others now or have another shape."""
        now = dict(self.layer.named_parameters())
        return {
            name: p
            for name, p in self.parameters.items()
            if now.get(name) is not p or p.shape != self.value(p).shape
        }

    def restore(self) -> None:
        """The same objects with the same bits."""
        for live, attributes, registered in self.modules:
            live.clear()
            live.update(attributes)
            for kind, members in registered.items():
                live[kind].clear()
                live[kind].update(members)
        with torch.no_grad():
            for tensor, data, value in self.values.values():
                tensor.data = data
                tensor.copy_(value)


class Sharing:
    """Which parameters of a model are several at once, and would come apart if one changed."""

    def __init__(self, model: nn.Module, layers: Sequence[Any]):
        self.names: dict[int, set[str]] = defaultdict(set)
        self.blocks: dict[int, set[int]] = defaultdict(set)
        for place, module in model.named_modules():
            for name, tensor in (*module._parameters.items(), *module._buffers.items()):
                for key in _keys(tensor):
                    self.names[key].add(f"{place}.{name}" if place else name)
        for i, layer in enumerate(layers):
            for tensor in layer.parameters():
                self.blocks[id(tensor)].add(i)

    def check(self, was: Before, changed: Mapping[str, nn.Parameter]) -> None:
        """Raise `ValueError` if one of the changed parameters is another module's, too."""
        for name, parameter in changed.items():
            names = set().union(*(self.names[key] for key in was.keys[id(parameter)]))
            if len(names) > 1:
                raise ValueError(
                    f"{' and '.join(sorted(names))} are one parameter, which a truncation would "
                    "take apart: give each its own"
                )
            if len(blocks := self.blocks[id(parameter)]) > 1:
                listed = " and ".join(map(str, sorted(blocks)))
                raise ValueError(
                    f"{name} belongs to blocks {listed}, one within the other: truncate one of them"
                )


def _keys(tensor: torch.Tensor | None) -> set[int]:
    """What a tensor is known by: itself, and where its memory begins, if it has any."""
    if tensor is None:
        return set()
    try:
        return {id(tensor), -tensor.data_ptr()} - {0}
    except (RuntimeError, ValueError):  # sparse, or not initialised yet
        return {id(tensor)}


def _input_scale(layer: Any) -> torch.Tensor | None:
    return layer.input_scale().detach() if hasattr(layer, "input_scale") else None


def _assigned(was: Before, truncation: BlockTruncation) -> Changed:
    """Give a layer its reduced system, or systems, and check that it took them."""
    layer = was.layer
    if isinstance(truncation, StateSelection):
        return _selected(was, truncation)
    if isinstance(layer, SelectiveLayer):
        return _projected(was, truncation)
    orders = []
    if isinstance(truncation, StackTruncation):
        orders = [torch.tensor(truncation.orders)]
    sliced = truncation.modes is not None and hasattr(layer, "keep_modes")
    if sliced:
        layer.keep_modes(truncation.modes, *orders)
    else:
        layer.assign(truncation.eigenvalues, truncation.B, truncation.C, *orders)
    _check_system(layer, truncation, "keep_modes" if sliced else "assign")
    if truncation.gain is not None:
        layer.add_gain(truncation.gain)
        _check_gain(was, truncation.gain)
    return _what_changed(was, truncation, sliced)


def _selected(was: Before, truncation: StateSelection) -> Changed:
    """Leave a selective layer some of its states, and check that these are the ones."""
    layer, rates = was.layer, was.layer.rates.detach()
    layer.keep_modes(truncation.modes)
    changed = _what_changed(was, truncation, sliced=True)
    wanted = {name: entries(name, value, changed, truncation.modes)
              for name, value in changed.values.items()}  # fmt: skip
    kept = all(torch.equal(changed.new[name].detach(), value) for name, value in wanted.items())
    if rates.dim() == 2:
        kept = kept and torch.equal(layer.rates.detach(), rates[:, truncation.modes])
    if not kept or layer.state_dim != truncation.order:
        raise ValueError(f"{type(layer).__name__}.keep_modes kept other states than it was given")
    return changed


def _projected(was: Before, truncation: Any) -> Changed:
    """Give a selective layer another basis, and check that it took it."""
    layer, orders = was.layer, torch.tensor(truncation.orders)
    given = rates_of(truncation)
    rates = [] if given is None else [given]
    layer.project(truncation.W, truncation.T, orders, *rates)
    named = f"{type(layer).__name__}.project"
    if order_of(layer) != truncation.orders or layer.state_dim != truncation.order:
        raise ValueError(f"{named} was given orders that the layer does not have after it")
    eps = torch.finfo(layer.rates.dtype).eps
    for wanted in rates:
        if not torch.allclose(layer.rates.detach().double().cpu(), wanted, rtol=ROUNDING * eps):
            raise ValueError(f"{named} was given rates that the layer does not have after it")
    return _what_changed(was, truncation, sliced=False)


def _what_changed(was: Before, truncation: BlockTruncation, sliced: bool) -> Changed:
    layer = was.layer
    old, new = was.changed(), dict(layer.named_parameters())
    for name in old:
        if name in new:
            new[name].requires_grad_(not was.frozen[name])
    values = {name: was.value(p) for name, p in old.items()}
    scales = (was.scale, _input_scale(layer))
    return Changed(layer, old, values, was.parameters, new, truncation, sliced, scales)


@torch.no_grad()
def _check_system(layer: Any, wanted: Truncation | StackTruncation, call: str) -> None:
    """Raise `ValueError` unless `system()` is the reduced one, up to rounding to the parameters."""
    named = f"{type(layer).__name__}.{call}"
    if layer.state_dim != wanted.order:
        raise ValueError(
            f"{named} was given {wanted.order} states, and state_dim is {layer.state_dim} after it"
        )
    given = (wanted.eigenvalues, wanted.B, wanted.C)
    (lam, b, c), _ = to_complex128(*layer.system())
    found = (lam, b, c)
    if isinstance(wanted, StackTruncation):
        if order_of(layer) != wanted.orders:
            raise ValueError(f"{named} was given orders that the layer does not have after it")
        given, found = (wanted.without_padding(*arrays) for arrays in (given, found))
    eps = max((torch.finfo(p.dtype).eps for p in _floats(layer)), default=0.0)
    allowed = min(ROUNDING * max(eps, torch.finfo(torch.float64).eps), AT_MOST)
    for name, one, two in zip(("eigenvalues", "B", "C"), given, found, strict=True):
        if one.shape != two.shape:
            raise ValueError(
                f"{named} was given {name} of shape {tuple(one.shape)}, and system() has them of "
                f"{tuple(two.shape)} after it"
            )
        scale = 1.0 if name == "eigenvalues" else float(one.abs().max())
        miss = float((one - two.to(one.device)).abs().max())
        if not miss <= allowed * scale:
            raise ValueError(
                f"{named} was given {name} that system() misses by {miss:.3g} after it, more than "
                f"{allowed * scale:.3g}, which the parameters' precision allows"
            )


def _check_gain(was: Before, gain: torch.Tensor) -> None:
    """Raise `ValueError` unless the parameter `gain` has grown by this."""
    layer, named = was.layer, f"{type(was.layer).__name__}.add_gain"
    new = dict(layer.named_parameters(recurse=False))
    if not {"gain", "D"} <= new.keys():
        raise ValueError(f"{named} must leave a parameter `gain`, beside one named D")
    wanted = torch.real(gain).to(torch.float64)
    if was.gain is not None:
        wanted = wanted + was.value(was.gain).to(wanted)
    miss = (new["gain"].detach().to(wanted) - wanted).abs().max()
    allowed = min(ROUNDING * torch.finfo(new["gain"].dtype).eps, AT_MOST) * wanted.abs().max()
    if not bool(miss <= allowed):
        raise ValueError(f"{named} was given a gain that the layer misses by {float(miss):.3g}")


def _floats(layer: nn.Module) -> Iterator[torch.Tensor]:
    for tensor in (*layer.parameters(), *layer.buffers()):
        if tensor.is_floating_point() or tensor.is_complex():
            yield tensor
