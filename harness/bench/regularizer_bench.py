"""`harness bench regularizer`: what the Hankel nuclear norm adds to a training step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, get_args

import torch
from torch import nn

from harness.models.specs import BackboneSpec
from harness.reduction import layers
from harness.reduction.regularizer import Method, hankel_nuclear_norm, regularizer_flops
from harness.tasks.base import TaskInfo
from harness.training.step.loss import loss_of

from .bench_machine import describe, machine_lines, open_device
from .interleaved import Rounds, check_rounds, interleave
from .shapes import Shape
from .text_table import middle, number, paragraph, span, table
from .timed_work import TrainingStep, waiter

Penalty = Callable[[nn.Module], torch.Tensor]

ROUNDS, QUICK_ROUNDS = 7, 3
TURN = 1.0  # seconds; a single short step depends too much on what else runs
WEIGHT = 1e-3  # of the norm in the loss; any weight costs the same
SMALLEST = 1e-10  # squared singular value, below which `eigvals` takes no gradient
EIGVALS = "eigvals"

SHAPES = (
    Shape("smnist", "sMNIST", 8, 784, 50, (256, 64), inputs=1),
    Shape("scifar", "sCIFAR", 512, 1024, 8, (384,), inputs=3, blocks=2),
)
QUICK_SHAPES = (Shape("smnist", "sMNIST", 8, 784, 50, (64,), inputs=1),)

HEADER = ("", "blocks", "H", "L", "batch", "N", "method", "step", "over plain", "range", "by FLOPs")


def published(model: nn.Module) -> torch.Tensor:
    """The norm as in its authors' code, for comparison: autograd through eigvals(P Q).

    In complex128, as ours. Squared singular values are clamped so that the root has a gradient.
    """
    total = torch.zeros((), dtype=torch.float64)
    for layer in layers(model):
        lam, B, C = layer.trainable_system()
        K = 1.0 / (1.0 - lam[:, None] * lam[None, :].conj())
        squares = torch.linalg.eigvals(((B @ B.mH) * K) @ ((C.mH @ C) * K.conj())).real
        total = total.to(lam.device) + squares.clamp_min(SMALLEST).sqrt().mean()
    return total


class RegularizedStep(TrainingStep):
    """A training step whose loss includes the norm."""

    def __init__(
        self, spec: BackboneSpec, info: TaskInfo, batch: int, device: torch.device, penalty: Penalty
    ):
        super().__init__(spec, info, batch, device)
        self.penalty = penalty

    def __call__(self) -> None:
        """As `TrainingStep`, with the penalty."""
        loss = loss_of(self.info.kind, self.model(self.x), self.y)
        loss = loss + WEIGHT * self.penalty(self.model)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.loss = loss.detach()


def penalties() -> dict[str, Penalty]:
    """The penalties to compare, by name."""
    ours = {m: lambda model, m=m: hankel_nuclear_norm(model, m) for m in get_args(Method)}
    return {EIGVALS: published, **ours}


def measure(
    *, quick: bool = False, threads: int = 2, device: str = "cpu", rounds: int | None = None
) -> dict[str, Any]:
    """Measure all shapes and sizes, one after another; JSON.

    Raises:
        ValueError: a bad number of rounds, or a missing device.
    """
    given = rounds if rounds is not None else QUICK_ROUNDS if quick else ROUNDS
    check_rounds(given)
    on = open_device(device, threads)
    result = {"bench": "regularizer", "machine": describe(on, threads), "rounds": given}
    shapes = QUICK_SHAPES if quick else SHAPES
    turn = 0.0 if quick else TURN
    cases = [(shape, n) for shape in shapes for n in shape.state_dims]
    return {**result, "sizes": [measure_size(shape, n, given, turn, on) for shape, n in cases]}


def measure_size(
    shape: Shape, n: int, rounds: int, turn: float, device: torch.device
) -> dict[str, Any]:
    """Rounds of the plain step and of one with each penalty, at one size N."""
    plain = TrainingStep(shape.model(n), shape.info, shape.batch, device)
    steps: dict[str, TrainingStep] = {"plain": plain}
    for name, penalty in penalties().items():
        steps[name] = RegularizedStep(shape.model(n), shape.info, shape.batch, device, penalty)
    timed = interleave(steps, rounds, turn=turn, wait=waiter(device))
    for name, step in steps.items():
        step.check(f"{shape.title}, N {n}, {name}")
    return summarise(shape, n, timed)


def summarise(shape: Shape, n: int, timed: Rounds) -> dict[str, Any]:
    """One size: seconds of a plain step, and by method seconds and factors."""
    rows = []
    for name in penalties():
        flops = None
        if name != EIGVALS:
            flops = shape.blocks * regularizer_flops(n, shape.width, name)  # type: ignore[arg-type]
        rows.append(
            {
                "method": name,
                "seconds": asdict(timed.spread(name)),
                "over_plain": asdict(timed.ratio(name, "plain")),
                "over_plain_by_flops": None if flops is None else 1 + flops / shape.flops(n),
            }
        )
    return {
        "shape": asdict(shape),
        "state_dim": n,
        "plain_seconds": asdict(timed.spread("plain")),
        "rows": rows,
        "rounds": timed.seconds,
    }


def lines(result: dict[str, Any]) -> list[str]:
    """The result as text: for each size one row for the plain step and one per method."""
    rows = [cells for found in result["sizes"] for cells in rows_of(found)]
    return [
        *machine_lines(result["machine"]),
        "",
        *table(HEADER, rows),
        "",
        *paragraph(
            f"Medians and ranges of {result['rounds']} interleaved rounds. step: a training step, "
            "in milliseconds; over plain: the step with the Hankel nuclear norm in its loss over "
            "one without, paired by round; by FLOPs: the same ratio from FLOP counts. exact, "
            "adjoint, modal: methods of hankel_nuclear_norm; eigvals: autograd through the "
            "eigenvalues of P Q, as first published. The norm does not depend on batch and L, so "
            "the factor falls as they grow."
        ),
    ]


def rows_of(found: dict[str, Any]) -> list[list[str]]:
    """The rows of one size."""
    shape = found["shape"]
    sizes = (shape[name] for name in ("blocks", "width", "length", "batch"))
    head = [shape["title"], *map(str, sizes), str(found["state_dim"])]
    rows = [[*head, "plain", middle(found["plain_seconds"], 1e3), "", "", ""]]
    for row in found["rows"]:
        factor = row["over_plain"]
        timings = [middle(row["seconds"], 1e3), middle(factor), span(factor)]
        rows.append([*head, row["method"], *timings, number(row["over_plain_by_flops"])])
    return rows
