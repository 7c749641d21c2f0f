"""Carrying an optimizer's moments through a truncation (AdamW of torch.optim)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn

from harness.tools.inputs import shown

from .balanced import Truncation

Moments = Literal["transport", "reset", "slice"]
ADAM = {"step", "exp_avg", "exp_avg_sq"}
PAIRED = ("B_re", "B_im", "C_re", "C_im")  # real and imaginary parts, (N, H) and (H, N)


def check_moments(optimizer: torch.optim.Optimizer, moments: Moments) -> None:
    """Raise `ValueError` where `carry_moments` does not know what to do with a state."""
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ValueError(f"optimizer must be one of torch.optim, not {shown(optimizer, 60)}")
    if moments not in get_args(Moments):
        raise ValueError(f"moments must be one of {', '.join(get_args(Moments))}, not {moments!r}")
    unknown = set().union(*optimizer.state.values()) - ADAM
    if moments != "reset" and unknown:
        done = "transported" if moments == "transport" else "sliced"
        raise ValueError(
            f"only Adam's moments can be {done}, not {', '.join(sorted(unknown))}: "
            f"use moments='reset'"
        )


def check_optimizer(
    optimizer: torch.optim.Optimizer, model: nn.Module, layers: Sequence[nn.Module]
) -> None:
    """Raise `ValueError` for an optimizer of another model, or of this one before it was truncated.

    It may hold a part of the model's parameters, where others are frozen, and those of other models
    beside them; not another model's in the place of a layer's.
    """
    held = {id(p): p for group in optimizer.param_groups for p in group["params"]}
    ours = {id(p) for p in model.parameters()}
    if not held.keys() & ours:
        raise ValueError("the optimizer holds no parameter of the model: it is another's")
    if held.keys() <= ours:
        return
    for i, layer in enumerate(layers):
        own = layer.named_parameters()
        missing = [name for name, p in own if p.requires_grad and id(p) not in held]
        if missing:
            raise ValueError(
                f"block {i}: the optimizer lacks {', '.join(missing)}, and holds "
                f"{len(held.keys() - ours)} parameters that are not the model's: it is another "
                "model's, or this one's from before it was truncated without it"
            )


@dataclass(frozen=True)
class Changed:
    """What a truncation changed in a layer.

    `old` are the parameters that it replaced or resized, by name, `values` what they held, `all`
    the layer's parameters from before, `new` those it has now; `sliced` says that the new ones are
    the entries `truncation.modes` of the old.
    """

    layer: Any
    old: dict[str, nn.Parameter]
    values: dict[str, torch.Tensor]
    all: dict[str, nn.Parameter]
    new: dict[str, nn.Parameter]
    truncation: Truncation
    sliced: bool = False


States = dict[str, dict[str, Any]]  # the optimizer's, by the name of the parameter


def carried(optimizer: torch.optim.Optimizer, changed: Changed, moments: Moments) -> States:
    """The optimizer's states of a layer's new parameters; without one a parameter restarts.

    `transport`: B and C keep their step count; their first moment follows the change of basis
    by the adjoint of the map from reduced to full parameters (B_full = T B, C_full = C W), their
    second moment by its diagonal part, in which the entries of a gradient count as uncorrelated.
    nu_log, theta_log and gamma_log restart, with their own bias correction. Where the parameters
    are those of some modes, unchanged, the entries of these modes are taken from every moment: the
    same adjoint, and exact for all of them. `slice` (the published code): the leading entries of
    every moment along the axis of states, whatever basis the parameters are in now, step count and
    all. `reset`: all of these restart. D has nothing to do with the states and keeps its moments.

    Raises:
        ValueError: names the parameters; moments that the layer says nothing of, or cannot have.
    """
    _check_names(changed)
    state = {n: optimizer.state[p] for n, p in changed.old.items() if optimizer.state.get(p)}
    if moments == "reset" or not state:
        return {}
    truncation = changed.truncation
    if moments == "slice" or changed.sliced:
        modes = truncation.modes
        if moments == "slice" or modes is None:
            modes = torch.arange(truncation.order)
        return {name: _entries(name, held, changed, modes) for name, held in state.items()}
    state = _transported(changed, state)
    T, W = truncation.T.to(torch.complex128), truncation.W.to(torch.complex128)
    left, right = T.mH, W.mH
    if "gamma_log" in changed.values:
        before = changed.values["gamma_log"].double().exp()
        after = changed.new["gamma_log"].detach().double().exp()
        # The gradient by the raw B is gamma times that by the normalised B = gamma B_raw.
        left = after[:, None] * T.mH / before
    return {
        **_pair(state, changed.new, ("B_re", "B_im"), lambda m: left @ m, left, None),
        **_pair(state, changed.new, ("C_re", "C_im"), lambda m: m @ right, None, right),
    }


def hand_over(optimizer: torch.optim.Optimizer, changed: Changed, states: States) -> None:
    """Put the new parameters in the place of the old ones, with these states."""
    swap = {id(p): changed.new[name] for name, p in changed.old.items()}
    for group in optimizer.param_groups:
        group["params"] = [swap.get(id(p), p) for p in group["params"]]
    for parameter in changed.old.values():
        optimizer.state.pop(parameter, None)
    for name, held in states.items():
        optimizer.state[changed.new[name]] = held
    for name in changed.new.keys() - changed.all.keys():  # a static gain
        join(optimizer, changed.new[name], beside=changed.new["D"])


def _check_names(changed: Changed) -> None:
    """Raise `ValueError` where parameters came or went; a gain may come."""
    come = changed.new.keys() - changed.all.keys()
    if changed.truncation.gain is not None:
        come -= {"gain"}
    gone = changed.all.keys() - changed.new.keys()
    if come or gone:
        raise ValueError(
            f"{type(changed.layer).__name__} must keep the names of its parameters, or no "
            f"optimizer can follow: {', '.join(sorted(gone)) or 'none'} went, "
            f"{', '.join(sorted(come)) or 'none'} came"
        )


def _transported(changed: Changed, state: States) -> States:
    """The states that follow a change of basis, as the layer says.

    Raises:
        ValueError: a parameter of which it says nothing, or what cannot be.
    """
    layer, named = changed.layer, type(changed.layer).__name__
    follow, restart = (set(getattr(layer, kind, ())) for kind in ("transports", "restarts"))
    unknown = follow - set(PAIRED)
    if unknown:
        raise ValueError(
            f"{named}.transports names {', '.join(sorted(unknown))}: "
            f"only {', '.join(PAIRED)} can follow a change of basis"
        )
    unsaid = sorted(state.keys() - follow - restart)
    if unsaid:
        raise ValueError(
            f"{named} does not say what becomes of the moments of {', '.join(unsaid)} (in its "
            "attributes `transports` and `restarts`): use moments='reset'"
        )
    found = {name: held for name, held in state.items() if name in follow}
    for pair in (PAIRED[:2], PAIRED[2:]):
        there = [name for name in pair if name in found]
        if len(there) == 1:
            raise ValueError(
                f"{there[0]} has moments and its other half has none, and they mix in a change "
                "of basis: use moments='reset'"
            )
    for name in found:
        shape, n = changed.values[name].shape, len(changed.truncation.T)
        if len(shape) != 2 or shape[PAIRED.index(name) // 2] != n:
            raise ValueError(f"{name} must be (N, H) for B and (H, N) for C, not {tuple(shape)}")
    return found


def join(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, beside: nn.Parameter) -> None:
    """Add a new parameter to the group that holds `beside`; to none if none does."""
    for group in optimizer.param_groups:
        if any(p is beside for p in group["params"]):
            group["params"].append(parameter)


def _entries(name: str, held: dict, changed: Changed, modes: torch.Tensor) -> dict:
    """The moments at these entries of the axis along which the shapes differ; the same step."""
    before, after = changed.values[name].shape, changed.new[name].shape
    n, r = len(changed.truncation.T), changed.truncation.order
    differ = [
        axis for axis, sizes in enumerate(zip(before, after, strict=False)) if len(set(sizes)) > 1
    ]
    if len(before) != len(after) or [(before[a], after[a]) for a in differ] != [(n, r)]:
        raise ValueError(
            f"{name} went from shape {tuple(before)} to {tuple(after)}, in which no axis counts "
            f"{n} states and then {r}: its moments have no entries to take, use moments='reset'"
        )
    return {
        key: value.index_select(differ[0], modes.to(value.device)).contiguous()
        if value.ndim == len(before)
        else value.clone()
        for key, value in held.items()
    }


def _pair(state: States, new: dict, names: tuple[str, ...], carry, left, right) -> States:
    """Moments of the real and imaginary parts of one complex parameter, if it has them."""
    if not state.keys() >= set(names):
        return {}  # frozen, or never stepped
    re, im = (state[name] for name in names)
    first = carry(torch.complex(re["exp_avg"].double(), im["exp_avg"].double()))
    v_re, v_im = re["exp_avg_sq"].double(), im["exp_avg_sq"].double()
    matrix = left if left is not None else right
    a, b = matrix.real.square(), matrix.imag.square()
    if left is not None:
        second = (a @ v_re + b @ v_im, b @ v_re + a @ v_im)
    else:
        second = (v_re @ a + v_im @ b, v_re @ b + v_im @ a)
    return {
        name: {
            "step": held["step"].clone(),
            "exp_avg": m.to(new[name].dtype).contiguous(),
            "exp_avg_sq": v.to(new[name].dtype).contiguous(),
        }
        for name, held, m, v in zip(names, (re, im), (first.real, first.imag), second, strict=True)
    }
