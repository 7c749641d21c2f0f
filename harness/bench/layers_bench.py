"""`harness bench layers`: training passes of each layer, against the plain recurrence, against the
same layer by others, and at fewer states."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from harness.models.specs import BackboneSpec, Mamba2Spec, MambaSpec, S4DSpec, S5Spec

from .bench_machine import describe, machine_lines, open_device
from .interleaved import check_rounds, interleave
from .peer_layers import PEERS
from .text_table import middle, number, paragraph, span, table

ROUNDS = 5
TURN, QUICK_TURN = 0.5, 0.0  # minimum seconds of a turn
LENGTH, QUICK_LENGTH = 1024, 64
HEADER = (
    "layer", "H", "batch", "states", "ms", "x plain", "range", "other", "x other", "range",
    "to", "x full", "range", "FLOPs",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A layer on a batch of random sequences, and the states that a truncation would leave it."""

    spec: BackboneSpec
    batch: int
    after: int

    @property
    def states(self) -> int:
        """As they are stored, of a system or a channel."""
        (n,) = set(self.spec.state_dims)
        return int(n)

    def at(self, states: int, backend: str = "auto") -> BackboneSpec:
        """The layer at so many states."""
        return self.spec.model_copy(update={"state_dim": states, "backend": backend})


CASES = (
    Case(S5Spec(blocks=1, width=128, state_dim=128), batch=4, after=16),
    Case(S4DSpec(blocks=1, width=128, state_dim=32), batch=4, after=4),
    Case(MambaSpec(blocks=1, width=256, state_dim=16), batch=2, after=4),
    Case(MambaSpec(blocks=1, width=256, state_dim=128), batch=2, after=12),
    Case(Mamba2Spec(blocks=1, width=256, state_dim=128, head_dim=64), batch=2, after=12),
)
QUICK_CASES = (
    Case(S5Spec(blocks=1, width=8, state_dim=16), batch=2, after=4),
    Case(S4DSpec(blocks=1, width=8, state_dim=16), batch=2, after=4),
    Case(MambaSpec(blocks=1, width=16, state_dim=16), batch=2, after=4),
    Case(Mamba2Spec(blocks=1, width=16, state_dim=16, head_dim=8), batch=2, after=4),
)


class Passes:
    """A layer as its authors initialise it; each call is one forward and one backward pass, of the
    sum of its outputs' squares, with gradients of the input and of every parameter."""

    def __init__(self, spec: BackboneSpec, u: torch.Tensor):
        torch.manual_seed(0)
        (states,) = set(spec.state_dims)
        layer = spec.layer_class()
        layer.warm_up()
        self.layer, self.u = layer.of(spec, states), u.clone().requires_grad_()
        self.loss = torch.zeros(())

    def __call__(self) -> None:
        self.loss = self.layer(self.u).square().sum()
        self.loss.backward()

    def check(self, what: str) -> None:
        """Raise unless the loss is finite: a fast wrong pass must not enter a table."""
        if not bool(self.loss.isfinite()):
            raise RuntimeError(
                f"{what}: the loss of a benchmarked layer is {float(self.loss.detach())}"
            )


def measure(*, quick: bool = False, threads: int = 2, rounds: int | None = None) -> dict[str, Any]:
    """Time every case, one after another; JSON.

    quick: small layers on short sequences.

    Raises:
        ValueError: a number of rounds or threads below 1.
    """
    given = rounds if rounds is not None else 1 if quick else ROUNDS
    check_rounds(given)
    device = open_device("cpu", threads)
    length = QUICK_LENGTH if quick else LENGTH
    return {
        "bench": "layers",
        "machine": describe(device, threads),
        "rounds": given,
        "length": length,
        "others": {name: _version(name) for name in ("mambapy", "discretax", "jax")},
        "rows": [
            row_of(case, length, given, QUICK_TURN if quick else TURN)
            for case in (QUICK_CASES if quick else CASES)
        ],
    }


def row_of(case: Case, length: int, rounds: int, turn: float = 0.0) -> dict[str, Any]:
    """A case's times and ratios, paired by round."""
    u = torch.randn(case.batch, length, case.spec.width)
    ours = {
        "layer": Passes(case.at(case.states), u),
        "plain": Passes(case.at(case.states, "reference"), u),
        "after": Passes(case.at(case.after), u),
    }
    calls: dict[str, Callable[[], Any]] = dict(ours)
    other = PEERS.get(case.spec.kind)
    theirs = other.passes(case.spec, case.states, u) if other else None
    if theirs is not None:
        calls["other"] = theirs
    timed = interleave(calls, rounds, turn=turn)
    for name, one in ours.items():
        one.check(f"{case.spec.kind} {name}")
    gc.collect()
    flops = [case.spec.layer_flops(n) for n in (case.states, case.after)]
    return {
        "layer": case.spec.kind,
        "width": case.spec.width,
        "batch": case.batch,
        "states": case.states,
        "after": case.after,
        "seconds": asdict(timed.spread("layer")),
        "over_plain": asdict(timed.ratio("plain", "layer")),
        "other": other.name if other and theirs is not None else None,
        "over_other": asdict(timed.ratio("other", "layer")) if theirs is not None else None,
        "over_full": asdict(timed.ratio("layer", "after")),
        "flop_ratio": flops[0] / flops[1],
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def lines(result: dict[str, Any]) -> list[str]:
    """The result as text."""
    rows = [
        [
            row["layer"], str(row["width"]), str(row["batch"]), str(row["states"]),
            middle(row["seconds"], 1e3), middle(row["over_plain"]), span(row["over_plain"]),
            row["other"] or "-", middle(row["over_other"]), span(row["over_other"]),
            str(row["after"]), middle(row["over_full"]), span(row["over_full"]),
            number(row["flop_ratio"]),
        ]
        for row in result["rows"]
    ]  # fmt: skip
    others = ", ".join(
        f"{name} {found}" if found else f"no {name}" for name, found in result["others"].items()
    )
    return [
        *machine_lines(result["machine"]),
        *paragraph(f"Others: {others}"),
        "",
        *table(HEADER, rows),
        "",
        *paragraph(
            f"Forward and backward of one layer, float32, sequences of {result['length']} steps. "
            "states: as stored, of S5's and S4D's each with its conjugate. x plain: times faster "
            "than the recurrence step by step in PyTorch; x other: than that layer by others, "
            "compiled by JAX where it is discretax's; to, x full: times faster at so few states, "
            "and FLOPs, by how much fewer FLOPs the layer then has. Ratios are paired in "
            f"{result['rounds']} rounds."
        ),
    ]
