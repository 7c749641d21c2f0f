"""Carrying an optimizer's moments through a truncation (AdamW of torch.optim)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn

from harness.tools.inputs import shown

from .balanced import Truncation
from .pieces import BlockTruncation
from .selective import StateSelection
from .stacks import StackTruncation

Moments = Literal["transport", "reset", "slice"]
ADAM = {"step", "exp_avg", "exp_avg_sq"}


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
    the entries `truncation.modes` of the old; `scales` are the layer's `input_scale()` before and
    after, if it has one.
    """

    layer: Any
    old: dict[str, nn.Parameter]
    values: dict[str, torch.Tensor]
    all: dict[str, nn.Parameter]
    new: dict[str, nn.Parameter]
    truncation: BlockTruncation
    sliced: bool = False
    scales: tuple[torch.Tensor | None, torch.Tensor | None] = (None, None)


States = dict[str, dict[str, Any]]  # the optimizer's, by the name of the parameter


def carried(optimizer: torch.optim.Optimizer, changed: Changed, moments: Moments) -> States:
    """The optimizer's states of a layer's new parameters; without one a parameter restarts.

    `transport`: B and C keep their step count; their first moment follows the change of basis
    by the adjoint of the map from reduced to full parameters (B_full = T B, C_full = C W), their
    second moment by its diagonal part, in which the entries of a gradient count as uncorrelated.
    nu_log, theta_log and gamma_log restart, with their own bias correction. In a stack each system
    has its own T and W, and what is padding has no moments. Where the parameters
    are those of some modes, unchanged, the entries of these modes are taken from every moment: the
    same adjoint, and exact for all of them. What systems of a stack shared, and have no longer,
    restarts. `slice` (the published code): the leading entries of
    every moment along the axis of states, whatever basis the parameters are in now, step count and
    all. `reset`: all of these restart. D has nothing to do with the states and keeps its moments.

    Raises:
        ValueError: names the parameters; moments that the layer says nothing of, or cannot have.
    """
    _check_names(changed)
    state = {
        name: optimizer.state[p]
        for name, p in changed.old.items()
        if optimizer.state.get(p) and not _was_shared(name, changed)
    }
    if moments == "reset" or not state:
        return {}
    truncation: Any = changed.truncation
    if moments == "slice" or changed.sliced:
        modes = None if moments == "slice" else truncation.modes
        return {name: _entries(name, held, changed, modes) for name, held in state.items()}
    pairs = _transported(changed, state)
    into, out = _adjoint(truncation, changed.scales)
    return {
        **_pair(state, changed.new, pairs.get("B", ()), into, "left"),
        **_pair(state, changed.new, pairs.get("C", ()), out, "right"),
    }


def _was_shared(name: str, changed: Changed) -> bool:
    """Whether systems of a stack had a parameter together of which each now has its own: a sum of
    their moments is no one's."""
    if not isinstance(changed.truncation, StackTruncation):
        return False
    return changed.values[name].shape[0] != changed.new[name].shape[0]


Map = tuple[torch.Tensor, torch.Tensor | None]  # M and K of m -> M m + K conj(m)


def _adjoint(
    truncation: Truncation | StackTruncation,
    scales: tuple[torch.Tensor | None, torch.Tensor | None],
) -> tuple[Map, Map]:
    """What multiplies the moments of B from the left, (..., r, N), and those of C from the right,
    (..., N, r): the adjoint of the map from reduced to full parameters, B_full = T B +
    T_conj conj(B), C_full = C W + conj(C) conj(W_conj).

    The gradient by the raw B is conj(scale) times that by B = scale * raw.
    """
    T, W = truncation.T.to(torch.complex128), truncation.W.to(torch.complex128)
    into: Map = (T.mH, None if truncation.T_conj is None else truncation.T_conj.mT)
    before, after = scales
    if before is not None and after is not None:
        new, old = after.conj()[..., :, None], before[..., None, :]
        left, other = into
        padded = isinstance(truncation, StackTruncation)  # with whatever scale the padding has
        scaled = new * left / old.conj()
        left = torch.where(left == 0.0, 0.0, scaled) if padded else scaled
        if other is not None:
            scaled = new * other / old
            other = torch.where(other == 0.0, 0.0, scaled) if padded else scaled
        into = left, other
    return into, (W.mH, None if truncation.W_conj is None else truncation.W_conj.mH)


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


def _transported(changed: Changed, state: States) -> dict[str, tuple[str, str]]:
    """The pairs of parameters, of B and of C, whose moments follow a change of basis.

    Raises:
        ValueError: a parameter of which the layer says nothing, or what cannot be.
    """
    layer, named = changed.layer, type(changed.layer).__name__
    pairs, restart = getattr(layer, "transports", {}), set(getattr(layer, "restarts", ()))
    if not isinstance(pairs, Mapping) or not set(pairs) <= {"B", "C"}:
        raise ValueError(
            f"{named}.transports must map 'B' and 'C' to the names of their real and imaginary "
            f"parts, not be {shown(pairs, 80)}"
        )
    follow = {name for pair in pairs.values() for name in pair}
    unsaid = sorted(state.keys() - follow - restart)
    if unsaid:
        raise ValueError(
            f"{named} does not say what becomes of the moments of {', '.join(unsaid)} (in its "
            "attributes `transports` and `restarts`): use moments='reset'"
        )
    for part, pair in pairs.items():
        there = [name for name in pair if name in state]
        if len(there) == 1:
            raise ValueError(
                f"{there[0]} has moments and its other half has none, and they mix in a change "
                "of basis: use moments='reset'"
            )
        for name in there:
            _check_layout(part, name, tuple(changed.values[name].shape), changed.truncation)
    return {part: pair for part, pair in pairs.items() if all(name in state for name in pair)}


def _check_layout(
    part: str, name: str, shape: tuple[int, ...], truncation: BlockTruncation
) -> None:
    leading, n = truncation.T.shape[:-2], truncation.T.shape[-2]
    rank = len(leading) + 2
    if len(shape) == rank - 1 and leading:  # one input or output
        fits = shape == (*leading, n)
    else:
        fits = len(shape) == rank and shape[:-2] == leading and shape[{"B": -2, "C": -1}[part]] == n
    if not fits:
        wanted = "(N, H) for B and (H, N) for C,"
        if leading:
            wanted = "(S, N, I) for B and (S, O, N) for C, or (S, N),"
        raise ValueError(f"{name} must be {wanted} not {shape}")


def join(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, beside: nn.Parameter) -> None:
    """Add a new parameter to the group that holds `beside`; to none if none does."""
    for group in optimizer.param_groups:
        if any(p is beside for p in group["params"]):
            group["params"].append(parameter)


def _entries(name: str, held: dict, changed: Changed, modes: torch.Tensor | None) -> dict:
    """The moments at these states (None: the leading ones); the same step."""
    rank = changed.values[name].dim()
    return {
        key: entries(name, value, changed, modes) if value.ndim == rank else value.clone()
        for key, value in held.items()
    }


def entries(
    name: str, value: torch.Tensor, changed: Changed, modes: torch.Tensor | None
) -> torch.Tensor:
    """Of an array like the old parameter of this name, what belongs to these states (None: the
    leading ones); (r,) indices, or (S, r) of every system, (G, r) of every group.

    Raises:
        ValueError: no axis of the parameter counts states.
    """
    axis, truncation = _states_axis(name, changed), changed.truncation
    if modes is None:
        modes = torch.arange(truncation.order)
    at = modes.to(value.device)
    if at.dim() == 2 and isinstance(truncation, StateSelection):
        at = at.view(at.shape + (1,) * (value.dim() - 2))
        return value.take_along_dim(at, axis).contiguous()
    if not isinstance(truncation, StackTruncation):
        return value.index_select(axis, at).contiguous()
    spread = [1] * value.dim()
    spread[0], spread[axis] = len(truncation.orders), truncation.order
    kept = truncation.kept.to(value.device).view(spread)
    at = at.expand(len(truncation.orders), -1).reshape(spread)
    return torch.where(kept, value.take_along_dim(at, axis), 0.0).contiguous()


def _states_axis(name: str, changed: Changed) -> int:
    """The axis along which a parameter counts states: where it shrank, or as a stack says."""
    before, after = changed.values[name].shape, changed.new[name].shape
    n, r = changed.truncation.T.shape[-2], changed.truncation.order
    differ = [
        axis for axis, sizes in enumerate(zip(before, after, strict=False)) if len(set(sizes)) > 1
    ]
    if isinstance(changed.truncation, StackTruncation) and hasattr(changed.layer, "state_axis"):
        axis = changed.layer.state_axis(name)
        if len(before) == len(after) and (before[axis], after[axis]) == (n, r):
            return axis
    elif len(before) == len(after) and [(before[a], after[a]) for a in differ] == [(n, r)]:
        return differ[0]
    raise ValueError(
        f"{name} went from shape {tuple(before)} to {tuple(after)}, in which no axis counts "
        f"{n} states and then {r}: its moments have no entries to take, use moments='reset'"
    )


def _pair(
    state: States, new: dict, names: Sequence[str], by: Map, side: Literal["left", "right"]
) -> States:
    """Moments of the real and imaginary parts of one complex parameter, if it has them, taken by a
    map that multiplies from this side."""
    if not names:
        return {}  # frozen, or never stepped
    re, im = (state[name] for name in names)
    matrix, conjugate = by
    # What a stack of one input or output leaves out of its shape.
    axis = -1 if side == "left" else -2
    flat = re["exp_avg"].ndim < matrix.ndim

    def times(of_state: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        value = of_state.unsqueeze(axis) if flat else of_state
        found = factor @ value if side == "left" else value @ factor
        return found.squeeze(axis) if flat else found

    m = torch.complex(re["exp_avg"].double(), im["exp_avg"].double())
    first = times(m, matrix)
    v_re, v_im = re["exp_avg_sq"].double(), im["exp_avg_sq"].double()
    if conjugate is None:
        a, b = matrix.real.square(), matrix.imag.square()
        second = (times(v_re, a) + times(v_im, b), times(v_re, b) + times(v_im, a))
    else:
        first = first + times(m.conj().resolve_conj(), conjugate)
        more, less = matrix + conjugate, matrix - conjugate
        second = (
            times(v_re, more.real.square()) + times(v_im, less.imag.square()),
            times(v_re, more.imag.square()) + times(v_im, less.real.square()),
        )
    return {
        name: {
            "step": held["step"].clone(),
            "exp_avg": m.to(new[name].dtype).contiguous(),
            "exp_avg_sq": v.to(new[name].dtype).contiguous(),
        }
        for name, held, m, v in zip(names, (re, im), (first.real, first.imag), second, strict=True)
    }
