"""Carrying an optimizer's moments through a truncation (AdamW of torch.optim)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import nn

from .balanced import Truncation

Moments = Literal["transport", "reset", "slice"]
ADAM = {"step", "exp_avg", "exp_avg_sq"}


def check_moments(optimizer: torch.optim.Optimizer, moments: Moments) -> None:
    """Raise `ValueError` where `carry_moments` does not know what to do with a state."""
    if moments not in get_args(Moments):
        raise ValueError(f"moments must be one of {', '.join(get_args(Moments))}, not {moments!r}")
    unknown = set().union(*optimizer.state.values()) - ADAM
    if moments != "reset" and unknown:
        done = "transported" if moments == "transport" else "sliced"
        raise ValueError(
            f"only Adam's moments can be {done}, not {', '.join(sorted(unknown))}: "
            f"use moments='reset'"
        )


def carry_moments(
    optimizer: torch.optim.Optimizer,
    old: dict[str, nn.Parameter],
    new: dict[str, nn.Parameter],
    truncation: Truncation,
    moments: Moments = "transport",
    sliced: bool = False,
) -> None:
    """Put the reduced parameters of one layer in the place of its old ones.

    `transport`: B and C keep their step count; their first moment follows the change of basis
    by the adjoint of the map from reduced to full parameters (B_full = T B, C_full = C W), their
    second moment by its diagonal part, in which the entries of a gradient count as uncorrelated.
    nu_log, theta_log and gamma_log restart, with their own bias correction. Where the parameters
    are those of some modes, unchanged, the entries of these modes are taken from every moment: the
    same adjoint, and exact for all of them. `slice` (the published code): the leading entries of
    every moment along the axis of states, whatever basis the parameters are in now, step count and
    all. `reset`: all of these restart. D has nothing to do with the states and keeps its moments.
    Layers with parameters of other names restart, unless sliced.

    Args:
        old, new: parameters of the layer by name, before and after; those that changed size.
        sliced: the new parameters are the entries `truncation.modes` of the old ones.
    """
    swap = {id(p): new[name] for name, p in old.items()}
    for group in optimizer.param_groups:
        group["params"] = [swap.get(id(p), p) for p in group["params"]]
    state = {name: optimizer.state.pop(p) for name, p in old.items() if p in optimizer.state}
    if moments == "slice" or (moments == "transport" and sliced):
        modes = truncation.modes
        if moments == "slice" or modes is None:
            modes = torch.arange(truncation.order)
        for name, held in state.items():
            optimizer.state[new[name]] = _entries(held, old[name].shape, new[name].shape, modes)
        return
    if moments == "reset" or "gamma_log" not in old:
        return
    T, W = truncation.T.to(torch.complex128), truncation.W.to(torch.complex128)
    before, after = old["gamma_log"].double().exp(), new["gamma_log"].double().exp()
    # The gradient by the raw B is gamma times that by the normalised B = gamma B_raw.
    left, right = after[:, None] * T.mH / before, W.mH
    _carry_pair(optimizer, state, new, ("B_re", "B_im"), lambda m: left @ m, left, None)
    _carry_pair(optimizer, state, new, ("C_re", "C_im"), lambda m: m @ right, None, right)


def join(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, beside: nn.Parameter) -> None:
    """Add a new parameter to the group that holds `beside`; to none if none does."""
    for group in optimizer.param_groups:
        if any(p is beside for p in group["params"]):
            group["params"].append(parameter)


def _entries(held: dict, before: torch.Size, after: torch.Size, modes: torch.Tensor) -> dict:
    """The moments at these entries of the axis along which the shapes differ; the same step."""
    found = {key: value.clone() for key, value in held.items()}
    for axis, (n, r) in enumerate(zip(before, after, strict=True)):
        for key, value in found.items():
            if n != r and value.ndim == len(before):
                found[key] = value.index_select(axis, modes.to(value.device)).contiguous()
    return found


def _carry_pair(optimizer, state, new, names, carry, left, right) -> None:
    """Moments of the real and imaginary parts of one complex parameter, if it has both."""
    if not state.keys() >= set(names):
        return  # frozen, or never stepped
    re, im = (state[name] for name in names)
    first = carry(torch.complex(re["exp_avg"].double(), im["exp_avg"].double()))
    v_re, v_im = re["exp_avg_sq"].double(), im["exp_avg_sq"].double()
    matrix = left if left is not None else right
    a, b = matrix.real.square(), matrix.imag.square()
    if left is not None:
        second = (a @ v_re + b @ v_im, b @ v_re + a @ v_im)
    else:
        second = (v_re @ a + v_im @ b, v_re @ b + v_im @ a)
    for name, old_state, m, v in zip(
        names, (re, im), (first.real, first.imag), second, strict=True
    ):
        parameter = new[name]
        optimizer.state[parameter] = {
            "step": old_state["step"].clone(),
            "exp_avg": m.to(parameter.dtype).contiguous(),
            "exp_avg_sq": v.to(parameter.dtype).contiguous(),
        }
