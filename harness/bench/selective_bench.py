"""`harness bench selective`: what truncations of selective layers lose, and what they cost."""

from __future__ import annotations

import copy
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn

from harness import tasks
from harness.api.stores import open_store
from harness.models import build
from harness.models.selective import OF_BASIS
from harness.models.specs import Mamba2Spec, MambaSpec
from harness.records.store import Store
from harness.reduction import Calibration, truncate
from harness.suite import FullSpec, ModelSpec, TaskSpec, TrainingSpec, TrialSpec
from harness.tasks.base import Task, TaskInfo
from harness.training.calibration import Examples
from harness.training.step.objective import loss_under
from harness.training.trial import run_trial

from .bench_machine import describe, machine_lines, open_device
from .interleaved import check_rounds, interleave
from .text_table import number, paragraph, span, table
from .timed_work import TrainingStep

SIZES, SEEDS, ROUNDS = (1, 2, 4, 8), (0, 1), 3
EXAMPLES, HELD_OUT = 256, 64
KINDS = (
    MambaSpec(blocks=2, width=16, state_dim=16),
    Mamba2Spec(blocks=2, width=16, state_dim=16, head_dim=8),
)
ON = {
    "digits": (TaskSpec(name="digits"), TrainingSpec(steps=600, batch_size=50, lr=0.01)),
    "mqar": (
        TaskSpec(name="mqar", length=16, pairs=2, vocabulary=16),
        TrainingSpec(steps=600, batch_size=64, lr=0.01),
    ),
}
COSTED = MambaSpec(blocks=6, width=256, state_dim=128)
LENGTH, BATCH, ORDER = 1024, 8, 12
LOSS_HEADER = ("task", "model", "states", "basis", "method", "models", "output error", "range")
COST_HEADER = ("basis", "method", "batches", "seconds", "steps", "range")


@dataclass(frozen=True)
class Loss:
    """What one block of one trained model loses by one truncation."""

    task: str
    kind: str
    states: int
    basis: str
    how: str
    seed: int
    output_error: float


def measure(
    *, quick: bool = False, threads: int = 2, rounds: int | None = None, batches: int = 2
) -> dict[str, Any]:
    """Truncate models that are trained here, and time a truncation of six blocks of 512 channels
    and 128 states, calibrated on so many `batches` of 8 sequences of 1,024 steps; JSON.

    quick: a model a kind, trained for 20 steps, and two blocks of 64 channels and 32 states.

    Raises:
        ValueError: a number of rounds or batches below 1.
    """
    given = rounds if rounds is not None else 1 if quick else ROUNDS
    check_rounds(given)
    if batches < 1:
        raise ValueError(f"batches must be at least 1, not {batches}")
    device = open_device("cpu", threads)
    spec = MambaSpec(blocks=2, width=32, state_dim=32) if quick else COSTED
    losses = [one for trained in trained_models(quick) for one in losses_of(*trained)]
    return {
        "bench": "selective",
        "machine": describe(device, threads),
        "rounds": given,
        "losses": summarise(losses),
        "costs": costs_of(spec, given, batches, 128 if quick else LENGTH),
        "shape": {"blocks": spec.blocks, "channels": spec.channels, "states": spec.state_dim},
    }


def trained_models(quick: bool) -> Iterator[tuple[TrialSpec, nn.Module]]:
    """Models of each kind, trained on each task for some seeds."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(folder)
        for task, training in list(ON.values())[: 1 if quick else None]:
            steps = {"steps": 20, "evaluate_every": 20} if quick else {}
            for model in KINDS:
                for seed in SEEDS[: 1 if quick else None]:
                    spec = TrialSpec(
                        task=task,
                        model=model,
                        arm=FullSpec(),
                        training=training.model_copy(update=steps),
                        seed=seed,
                    )
                    found = run_trial(spec, store)
                    if found["status"] != "completed":
                        raise RuntimeError(f"{task.name}: {found['message']}")
                    yield spec, open_store(folder).load_model(spec.trial_id)


def losses_of(spec: TrialSpec, model: nn.Module) -> Iterator[Loss]:
    """Of a trained model, by every size and method that its basis allows."""
    calibration = _calibration(tasks.build(spec.task), spec)
    heads = spec.model.kind == "mamba2"
    free = in_free_basis(model, spec)
    methods = [("own", how) for how in OF_BASIS["own"]] + [("own", "random")]
    methods += [("free", how) for how in OF_BASIS["free"] if not (heads and how == "mean_lti")]
    for states in SIZES:
        for basis, how in methods:
            chance: dict[str, Any] = {"selective": how}
            if how == "random":
                generator = np.random.default_rng(spec.seed)
                chance = {"method": "random", "generator": generator}
            small = copy.deepcopy(free if basis == "free" else model)
            done = truncate(small, state_dims=states, calibration=calibration, **chance)
            for one in done:
                yield Loss(
                    spec.task.name,
                    spec.model.kind,
                    states,
                    basis,
                    how,
                    spec.seed,
                    float(one.output_error),
                )


def in_free_basis(model: nn.Module, spec: TrialSpec) -> nn.Module:
    """The same model, whose states may take any basis."""
    fields = {**spec.model.model_dump(), "basis": "free"}
    free = build(ModelSpec(**fields), spec.task.info).eval()
    free.load_state_dict({**free.state_dict(), **model.state_dict()})
    return free


def _calibration(task: Task, spec: TrialSpec) -> Calibration:
    drawn = np.random.default_rng(spec.seed).permutation(task.sizes["train"])
    parts = drawn[:EXAMPLES], drawn[EXAMPLES : EXAMPLES + HELD_OUT]
    device = torch.device("cpu")
    batches, held = (Examples(task, one, spec.training.batch_size, device) for one in parts)
    return Calibration(batches, held, loss_under(spec, task.info), task.info.length, spec.seed)


def costs_of(spec: MambaSpec, rounds: int, batches: int, length: int) -> list[dict[str, Any]]:
    """Seconds of truncations, calibration included, and how many training steps they are, by
    rounds in which each is paired with a step."""
    info = TaskInfo("classification", 10, length, None, 16)
    step = TrainingStep(spec, info, BATCH, torch.device("cpu"))
    given = [torch.randint(16, (BATCH, length)) for _ in range(batches)]
    rows = []
    for basis, how in (("own", "mean_modes"), ("own", "second_moment"), ("free", "mean_lti")):
        fields = {**spec.model_dump(), "basis": basis}
        model = build(ModelSpec(**fields), info)

        def cut(model: nn.Module = model, how: str = how) -> None:
            truncate(copy.deepcopy(model), state_dims=ORDER, calibration=given, selective=how)

        timed = interleave({"step": step, "cut": cut}, rounds)
        row = {"basis": basis, "how": how, "batches": batches}
        seconds, steps = timed.spread("cut"), timed.ratio("cut", "step")
        rows.append({**row, "seconds": asdict(seconds), "steps": asdict(steps)})
    step.check("the training step")
    return rows


def summarise(losses: list[Loss]) -> list[dict[str, Any]]:
    """Medians over seeds and blocks, with the smallest and the largest."""
    groups: dict[tuple[str, str, int, str, str], list[Loss]] = defaultdict(list)
    for one in losses:
        groups[one.task, one.kind, one.states, one.basis, one.how].append(one)
    return [
        {
            **dict(zip(("task", "kind", "states", "basis", "how"), key, strict=True)),
            "models": len({one.seed for one in of}),
            "output_error": median(one.output_error for one in of),
            "lowest": min(one.output_error for one in of),
            "highest": max(one.output_error for one in of),
        }
        for key, of in groups.items()
    ]


def lines(result: dict[str, Any]) -> list[str]:
    """The result as text."""
    losses = [
        [
            row["task"], row["kind"], str(row["states"]), row["basis"], row["how"],
            str(row["models"]), f"{row['output_error']:.3f}",
            f"{row['lowest']:.3f}..{row['highest']:.3f}",
        ]
        for row in result["losses"]
    ]  # fmt: skip
    costs = [
        [
            row["basis"], row["how"], str(row["batches"]), number(row["seconds"]["median"]),
            number(row["steps"]["median"]), span(row["steps"]),
        ]
        for row in result["costs"]
    ]  # fmt: skip
    shape = result["shape"]
    return [
        *machine_lines(result["machine"]),
        "",
        *table(LOSS_HEADER, losses, left=5),
        "",
        *paragraph(
            "Models of 2 blocks with 16 states a channel, trained 600 steps. output error: "
            f"||y - y_r|| / ||y|| of a block's recurrences on {HELD_OUT} held-out training "
            f"examples, calibrated on {EXAMPLES}; medians and ranges over seeds and blocks. "
            "random: states by lot."
        ),
        "",
        *table(COST_HEADER, costs, left=2),
        "",
        *paragraph(
            f"Truncating {shape['blocks']} Mamba blocks of {shape['channels']} channels from "
            f"{shape['states']} states to {ORDER}, calibration included, on batches of {BATCH}; "
            f"steps: over a training step of one batch, paired in {result['rounds']} rounds."
        ),
    ]
