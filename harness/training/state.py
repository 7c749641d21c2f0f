"""The explicit state of a run, and its conversion to a checkpoint and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from harness.models import Backbone
from harness.models.description import expect
from harness.models.orders import Order, order_of
from harness.reduction.moments import join

# What `unpack` raises for a checkpoint that does not belong to this run.
MISFITS = (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError)
ORDERS = "blocks.{}.ssm.orders"  # the buffer of a stack (see `harness.models.layers`)
MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass
class Selected:
    """The best model of the present size so far, by validation."""

    step: int
    value: float
    weights: dict[str, torch.Tensor]
    state_dims: list[int]

    @property
    def orders(self) -> list[Order]:
        """The order of every block, or of a stack's systems."""
        found: list[Order] = []
        for i, n in enumerate(self.state_dims):
            stack = self.weights.get(ORDERS.format(i))
            found.append(n if stack is None else tuple(stack.tolist()))
        return found


@dataclass
class Kept:
    """Model and optimizer before a truncation, to roll back to, and the model selected then."""

    tensors: dict[str, torch.Tensor]
    state_dims: list[int]
    value: float
    selected: Selected | None


@dataclass
class RunState:
    """Everything that training depends on, besides the spec and the data."""

    model: Backbone
    optimizer: torch.optim.Optimizer
    step: int = 0
    settled: bool = False  # whether the boundary after this step is done
    loss_sum: float = 0.0
    loss_count: int = 0
    train_flops: int = 0  # exact, wherever boundaries fall
    truncation_flops: float = 0.0
    bar: float | None = None  # what validation must pass, if the protocol keeps a bar of its own
    stopped: bool = False  # whether further events are cancelled
    seconds_passes: float = 0.0  # evaluations that the protocol's clock counts
    selected: Selected | None = None
    kept: Kept | None = None
    memory: dict[str, Any] = field(default_factory=dict)  # the arm's own JSON values
    curves: list[dict[str, Any]] = field(default_factory=list)
    truncations: list[dict[str, Any]] = field(default_factory=list)
    spectra: list[dict[str, Any]] = field(default_factory=list)

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """The rows recorded so far, by table."""
        return {
            "curves": self.curves,
            "truncations": self.truncations,
            "spectra": self.spectra,
        }

    @property
    def orders(self) -> list[Order]:
        """The order of every block of the model, of a stack those of its systems."""
        return [order_of(layer) for layer in self.model.layers]


_PLAIN = (
    "step",
    "settled",
    "loss_sum",
    "loss_count",
    "train_flops",
    "truncation_flops",
    "bar",
    "stopped",
    "seconds_passes",
    "memory",
    "curves",
    "truncations",
    "spectra",
)


def snapshot(state: RunState) -> dict[str, torch.Tensor]:
    """Copies of the model's tensors and the optimizer's, for `install`."""
    return {name: tensor.detach().clone() for name, tensor in _tensors(state).items()}


def install(state: RunState, tensors: dict[str, torch.Tensor], state_dims: list[int]) -> None:
    """Give model and optimizer these sizes and tensors."""
    model, device = state.model, next(state.model.parameters()).device
    old = dict(model.named_parameters())
    for parameter in old.values():
        state.optimizer.state.pop(parameter, None)
    model.resize(state_dims)
    weights = _part(tensors, "model.")
    expect(model, weights)
    new = dict(model.named_parameters())
    swap = {id(parameter): new[name] for name, parameter in old.items() if name in new}
    for group in state.optimizer.param_groups:
        group["params"] = [swap[id(p)] for p in group["params"] if id(p) in swap]
    for name in new.keys() - old.keys():  # a gain joins the group of its D, as when it was added
        join(state.optimizer, new[name], beside=new[name.removesuffix("gain") + "D"])
    model.load_state_dict(weights)
    for name, parameter in model.named_parameters():
        moments = _part(tensors, f"optimizer.{name}.")
        if moments:
            # A fused AdamW also keeps its step counter on the device and works in place.
            state.optimizer.state[parameter] = {k: v.to(device).clone() for k, v in moments.items()}


def pack(state: RunState) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """(tensors, JSON) from which `unpack` restores the state bit by bit."""
    tensors = _tensors(state)
    plain = {name: getattr(state, name) for name in _PLAIN}
    plain["state_dims"] = state.model.state_dims
    _pack_selected(state.selected, "selected", tensors, plain)
    if state.kept is not None:
        tensors |= {f"kept.{k}": v for k, v in state.kept.tensors.items()}
        plain["kept"] = {"value": state.kept.value, "state_dims": state.kept.state_dims}
        _pack_selected(state.kept.selected, "kept_selected", tensors, plain)
    return tensors, plain


def unpack(state: RunState, tensors: dict[str, torch.Tensor], plain: dict[str, Any]) -> None:
    """Restore a checkpoint into a fresh state."""
    install(state, tensors, plain["state_dims"])
    device = next(state.model.parameters()).device
    for name in _PLAIN:
        if name in plain:  # a checkpoint of an earlier version lacks newer fields
            setattr(state, name, plain[name])
    state.selected = _unpack_selected("selected", tensors, plain, device)
    if "kept" in plain:
        kept = {k: v.to(device) for k, v in _part(tensors, "kept.").items()}
        selected = _unpack_selected("kept_selected", tensors, plain, device)
        state.kept = Kept(kept, **plain["kept"], selected=selected)


def _pack_selected(
    selected: Selected | None, name: str, tensors: dict[str, torch.Tensor], plain: dict[str, Any]
) -> None:
    if selected is not None:
        tensors.update({f"{name}.{k}": v for k, v in selected.weights.items()})
        fields = ("step", "value", "state_dims")
        plain[name] = {field: getattr(selected, field) for field in fields}


def _unpack_selected(
    name: str, tensors: dict[str, torch.Tensor], plain: dict[str, Any], device: torch.device
) -> Selected | None:
    if name not in plain:
        return None
    weights = {k: v.to(device) for k, v in _part(tensors, f"{name}.").items()}
    return Selected(weights=weights, **plain[name])


def _tensors(state: RunState) -> dict[str, torch.Tensor]:
    """The model's tensors and the optimizer's by name, not copied."""
    tensors = {f"model.{k}": v for k, v in state.model.state_dict().items()}
    for name, parameter in state.model.named_parameters():
        for key, value in state.optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{name}.{key}"] = value
    return tensors


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
