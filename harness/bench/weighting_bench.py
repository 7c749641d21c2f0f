"""`harness bench weighting`: what a decomposition weighted by data costs, in seconds and memory."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from .bench_machine import describe, machine_lines, open_device
from .interleaved import Call, Rounds, Spread, check_rounds, interleave
from .shapes import Shape
from .step_memory import Case, peaks
from .text_table import middle, number, paragraph, span, table
from .timed_work import TrainingStep, waiter
from .weighted_work import GRAMIANS, Calibrated

ROUNDS, QUICK_ROUNDS = 3, 3
MOST_BATCHES = 10_000
OWN = {"horizon": None, "signal": "forward", "task": "both ways"}  # passes that each runs itself


@dataclass(frozen=True)
class Setup:
    """A shape at its only size N, and on how many batches of it one calibrates."""

    shape: Shape
    batches: int

    @property
    def n(self) -> int:
        """N."""
        return self.shape.state_dims[0]


NARROW = Setup(Shape("narrow", "narrow", 32, 300, 50, (64,), inputs=1, blocks=2), 5)
SETUPS = (
    NARROW,
    Setup(Shape("wide", "wide", 512, 1024, 8, (384,), vocabulary=16, blocks=6), 16),
)
QUICK_SETUPS = (
    NARROW,
    Setup(Shape("half", "half", 128, 512, 8, (128,), vocabulary=16, blocks=2), 4),
)

HEADER = ("", "blocks", "H", "L", "batches", "N", "case", "seconds", "over passes",
          "beyond", "range", "steps", "MiB", "over step")  # fmt: skip


def measure(
    *,
    quick: bool = False,
    threads: int = 2,
    device: str = "cpu",
    rounds: int | None = None,
    batches: int | None = None,
) -> dict[str, Any]:
    """Measure all setups, one after another; JSON. `batches` in the place of each setup's own.

    Raises:
        ValueError: a bad number of rounds or batches, or a missing device.
    """
    given = rounds if rounds is not None else QUICK_ROUNDS if quick else ROUNDS
    check_rounds(given)
    if batches is not None and not 1 <= batches <= MOST_BATCHES:
        raise ValueError(f"batches must be from 1 to {MOST_BATCHES}, not {batches}")
    on = open_device(device, threads)
    result = {"bench": "weighting", "machine": describe(on, threads), "rounds": given}
    setups = [
        Setup(one.shape, batches or one.batches) for one in (QUICK_SETUPS if quick else SETUPS)
    ]
    return {**result, "setups": [measure_setup(one, given, on, threads) for one in setups]}


def measure_setup(setup: Setup, rounds: int, device: torch.device, threads: int) -> dict[str, Any]:
    """Rounds of a training step, of the passes, and of each decomposition; then their peaks."""
    shape, n = setup.shape, setup.n
    step = TrainingStep(shape.model(n), shape.info, shape.batch, device)
    calibrated = Calibrated(step, setup.batches)
    cases: dict[str, Call] = {"step": step, **calibrated.cases()}
    timed = interleave(cases, rounds, wait=waiter(device))
    step.check(shape.title)
    backend = step.model.backends(shape.batch, device)[0].name
    asked = [Case(shape, n, backend)]
    asked += [Case(shape, n, backend, gramians=name, batches=setup.batches) for name in GRAMIANS]
    found = dict(zip(("step", *GRAMIANS), peaks(asked, device.type, threads), strict=True))
    return summarise(setup, timed, found)


def summarise(setup: Setup, timed: Rounds, peak: dict[str, int | None]) -> dict[str, Any]:
    """One setup: seconds by case, and of each decomposition its factors and its peak."""
    rows = []
    for name in GRAMIANS:
        here, least = peak[name], peak["step"]
        rows.append(
            {
                "gramians": name,
                "seconds": asdict(timed.spread(name)),
                "over_passes": asdict(timed.ratio(name, "passes")),
                "beyond": asdict(beyond(timed, name)),
                "steps": asdict(timed.ratio(name, "step")),
                "peak_bytes": here,
                "peak_over_step": here / least if here is not None and least else None,
            }
        )
    return {
        "shape": asdict(setup.shape),
        "state_dim": setup.n,
        "batches": setup.batches,
        "seconds": {name: asdict(timed.spread(name)) for name in timed.seconds},
        "step_peak_bytes": peak["step"],
        "rows": rows,
        "rounds": timed.seconds,
    }


def beyond(timed: Rounds, name: str) -> Spread:
    """Seconds of a decomposition beyond the passes it runs, over the passes of training, paired."""
    own = OWN[name]
    runs = timed.seconds[own] if own else [0.0] * len(timed.seconds[name])
    triples = zip(timed.seconds[name], runs, timed.seconds["passes"], strict=True)
    return Spread.of([(whole - ran) / passes for whole, ran, passes in triples])


def lines(result: dict[str, Any]) -> list[str]:
    """The result as text: of each setup a training step, the passes, and the decompositions."""
    rows = [cells for found in result["setups"] for cells in rows_of(found)]
    return [
        *machine_lines(result["machine"]),
        "",
        *table(HEADER, rows),
        "",
        *paragraph(
            f"Medians and ranges of {result['rounds']} interleaved rounds. passes: forward and "
            "backward over the calibration batches, with all gradients of training; forward, both "
            "ways: the passes that signal and task run themselves. horizon, signal, task: "
            "weighted_decompositions of all blocks, given the published ones. over passes: over "
            "passes, paired by round; beyond: the same without the passes that it runs itself; "
            "steps: over a training step of one batch. MiB: the peak, each in a process of its own "
            "that has trained a step; over step: over the peak of a training step."
        ),
    ]


def rows_of(found: dict[str, Any]) -> list[list[str]]:
    """The rows of one setup."""
    shape = found["shape"]
    sizes = (shape["blocks"], shape["width"], shape["length"])
    batches = f"{found['batches']} x {shape['batch']}"
    head = [shape["title"], *map(str, sizes), batches, str(found["state_dim"])]
    empty = [""] * 4
    peak = _mebibytes(found["step_peak_bytes"])
    seconds = found["seconds"]
    rows = [[*head, "step", middle(seconds["step"]), *empty, peak, ""]]
    for name in ("passes", "forward", "both ways"):
        rows.append([*head, name, middle(seconds[name]), *empty, "", ""])
    for row in found["rows"]:
        factors = [middle(row["over_passes"]), middle(row["beyond"]), span(row["beyond"])]
        memory = [_mebibytes(row["peak_bytes"]), number(row["peak_over_step"])]
        timings = [middle(row["seconds"]), *factors, middle(row["steps"])]
        rows.append([*head, row["gramians"], *timings, *memory])
    return rows


def _mebibytes(count: int | None) -> str:
    return number(None if count is None else count / 2**20)
