"""`harness bench truncation`: what a truncation costs, and the steps right after it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import psutil
import torch

from harness.models.specs import LRUSpec
from harness.reduction import decompositions, truncate
from harness.tasks.base import TaskInfo
from harness.training.costs.flops import step_flops

from .bench_machine import describe, open_device
from .interleaved import Rounds, check_rounds, interleave, seconds_of
from .timed_work import TrainingStep, waiter

ROUNDS, QUICK_ROUNDS = 5, 3
BATCH = 50  # sequences in the step that a truncation is compared to
SMALLER = (25, 8)  # batches measured instead if that does not fit into memory
SMALL = 4  # sequences in the steps after a truncation if a whole batch takes long
QUICK_FLOPS = 2e10  # of a step that does not take long
ROOM = 0.7  # share of the free memory that a step may take


@dataclass(frozen=True)
class Setup:
    """A model of equal blocks over L steps, and the target ranks."""

    blocks: int
    width: int
    state_dim: int
    length: int
    ranks: tuple[int, ...]

    @property
    def model(self) -> LRUSpec:
        """Its spec."""
        return LRUSpec(blocks=self.blocks, width=self.width, state_dim=self.state_dim)

    @property
    def info(self) -> TaskInfo:
        """A task of its length."""
        return TaskInfo("classification", outputs=10, length=self.length, inputs=3)

    @property
    def step_flops(self) -> float:
        """Analytic FLOPs of a training step of the full model at batch 50."""
        return step_flops(self.model, self.info, [self.state_dim] * self.blocks, BATCH)

    @property
    def steady_batch(self) -> int:
        """Sequences of the steps right after a truncation."""
        return BATCH if self.step_flops <= QUICK_FLOPS else SMALL

    def bytes_of_step(self, batch: int) -> float:
        """About the bytes a training step keeps: 16 H + 4 N complex states per token and block."""
        per_token = 4.0 * (16 * self.width + 8 * self.state_dim)
        return batch * self.length * self.blocks * per_token


SETUPS = (
    Setup(1, 8, 256, 784, (13, 243)),
    Setup(1, 128, 256, 2048, (62, 243)),
    Setup(6, 128, 256, 512, (62, 243)),
    Setup(6, 512, 384, 1024, (93, 365)),
)
QUICK_SETUPS = (
    Setup(1, 8, 256, 784, (13, 243)),
    Setup(6, 128, 128, 256, (31, 122)),
)


@dataclass(frozen=True)
class TruncationBenchOptions:
    """What to measure and how."""

    setups: tuple[Setup, ...]
    rounds: int
    device: str = "cpu"
    threads: int = 2


def truncation_bench_options(
    *, quick: bool = False, threads: int = 2, device: str = "cpu", rounds: int | None = None
) -> TruncationBenchOptions:
    """Options from the command line.

    Raises:
        ValueError: a bad number of rounds.
    """
    given = rounds if rounds is not None else QUICK_ROUNDS if quick else ROUNDS
    check_rounds(given)
    return TruncationBenchOptions(QUICK_SETUPS if quick else SETUPS, given, device, threads)


def measure(options: TruncationBenchOptions) -> dict[str, Any]:
    """Measure all setups, one after another; JSON.

    Raises:
        ValueError: a missing device.
    """
    device = open_device(options.device, options.threads)
    result = {
        "bench": "truncation",
        "machine": describe(device, options.threads),
        "rounds": options.rounds,
        "batch": BATCH,
    }
    return {
        **result,
        "setups": [measure_setup(one, options.rounds, device) for one in options.setups],
    }


def measure_setup(setup: Setup, rounds: int, device: torch.device) -> dict[str, Any]:
    """Rounds of the training step, the spectra alone, and a truncation to each rank."""
    batch = batch_that_fits(setup, free_bytes(device))
    step = TrainingStep(setup.model, setup.info, batch, device)
    step.warm()  # so that moments exist
    cases: dict[str, Callable[[], Any]] = {
        "step": step,
        "spectra": lambda: decompositions(step.model),
    }
    made = {rank: Copies(step, rank) for rank in setup.ranks}
    cases |= {f"to {rank}": copies for rank, copies in made.items()}
    for copies in made.values():
        copies.prepare(rounds + 1)  # one more for the call that does not count
    timed = interleave(cases, rounds, wait=waiter(device))
    step.check(str(setup))
    after = {rank: steps_after(setup, rank, rounds, device) for rank in setup.ranks}
    return summarise(setup, batch, timed, after)


def free_bytes(device: torch.device) -> float:
    """Free bytes of the device's memory."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float(psutil.virtual_memory().available)


def batch_that_fits(setup: Setup, free: float) -> int:
    """The batch at which to measure the training step: 50 if memory allows, or less."""
    fits = [b for b in (BATCH, *SMALLER) if setup.bytes_of_step(b) <= ROOM * free]
    return fits[0] if fits else SMALLER[-1]


class Copies:
    """Copies of a model and its optimizer, made beforehand; each call truncates one.

    One decomposition serves the spectra, from which an arm chooses the ranks, and the truncation.
    """

    def __init__(self, step: TrainingStep, rank: int):
        self.step, self.rank = step, rank
        self.waiting: list[tuple[Any, Any]] = []

    def prepare(self, count: int) -> None:
        """Make `count` copies."""
        whole = self.step.model, self.step.optimizer
        self.waiting += [copy.deepcopy(whole) for _ in range(count)]

    def __call__(self) -> None:
        model, optimizer = self.waiting.pop()
        truncate_once(model, optimizer, self.rank)


def truncate_once(model: Any, optimizer: Any, rank: int) -> None:
    """Spectra and truncation, as the training loop does them."""
    found = decompositions(model)
    truncate(model, state_dims=rank, optimizer=optimizer, decomposed=found)


def steps_after(setup: Setup, rank: int, rounds: int, device: torch.device) -> Rounds:
    """The first and second step after a truncation and, in the same rounds, a step of a model that
    was truncated long before; all at the same batch.
    """
    wait = waiter(device)
    full = TrainingStep(setup.model, setup.info, setup.steady_batch, device)
    full.warm()
    steady = copy.deepcopy(full)
    truncate_once(steady.model, steady.optimizer, rank)
    steady()
    seconds: dict[str, list[float]] = {"first": [], "second": [], "steady": []}
    for _ in range(rounds):
        fresh = copy.deepcopy(full)
        fresh()
        truncate_once(fresh.model, fresh.optimizer, rank)
        wait()
        for name, step in (("first", fresh), ("second", fresh), ("steady", steady)):
            seconds[name].append(seconds_of(step, wait))
        fresh.check(f"{setup} truncated to {rank}")
    return Rounds(seconds, {})


def summarise(setup: Setup, batch: int, timed: Rounds, after: dict[int, Rounds]) -> dict[str, Any]:
    """A setup's rows. The step at batch 50 is the step at `batch` times 50 / `batch`."""
    factor = BATCH / batch
    rows = []
    for rank, later in after.items():
        rows.append(
            {
                "rank": rank,
                "seconds": {**as_json(timed, f"to {rank}"), "rounds": timed.seconds[f"to {rank}"]},
                "steps": {
                    k: v / factor for k, v in asdict(timed.ratio(f"to {rank}", "step")).items()
                },
                "steady_step_seconds": as_json(later, "steady"),
                "first_over_steady": asdict(later.ratio("first", "steady")),
                "second_over_steady": asdict(later.ratio("second", "steady")),
            }
        )
    return {
        "setup": asdict(setup),
        "spectra_seconds": as_json(timed, "spectra"),
        "step_seconds": {k: v * factor for k, v in as_json(timed, "step").items()},
        "step_measured_at_batch": batch,
        "step_flops": setup.step_flops,
        "steady_batch": setup.steady_batch,
        "rows": rows,
    }


def as_json(timed: Rounds, case: str) -> dict[str, float]:
    """Median, low and high of a case's seconds."""
    return asdict(timed.spread(case))
