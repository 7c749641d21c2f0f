"""`harness bench step`: one training step of one block, by shape, size N and backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from harness.models.scans import BACKENDS, choose

from .bench_machine import describe, open_device
from .interleaved import Call, Rounds, Spread, check_rounds, interleave
from .shapes import OFFICIAL_MS, OFFICIAL_SOURCE, Shape, pick_shapes, picked
from .step_memory import Case, peaks
from .timed_work import Copy, Gemm, TrainingStep, waiter

ROUNDS, QUICK_ROUNDS = 9, 3
TURN, QUICK_TURN = 0.25, 0.05  # minimum seconds of a turn
BASELINE = "associative"
LONGEST_REFERENCE = 256  # sequence steps; a Python loop over more takes seconds per training step
WIDEST_TOEPLITZ = (
    64  # channels; beyond, its (T H)^2 matrices take many times as long as other backends
)


@dataclass(frozen=True)
class StepBenchOptions:
    """What to measure and how. `named`: the user named the backends, so none is left out."""

    shapes: tuple[Shape, ...]
    backends: tuple[str, ...]
    named: bool
    rounds: int
    turn: float
    device: str = "cpu"
    threads: int = 2


def step_bench_options(
    *,
    quick: bool = False,
    backends: str | None = None,
    shapes: str | None = None,
    threads: int = 2,
    device: str = "cpu",
    rounds: int | None = None,
) -> StepBenchOptions:
    """Options from the command line.

    Raises:
        ValueError: an unknown shape or backend, or a bad number of rounds.
    """
    given = rounds if rounds is not None else QUICK_ROUNDS if quick else ROUNDS
    check_rounds(given)
    names = picked(backends, tuple(BACKENDS), "backend")
    turn = QUICK_TURN if quick else TURN
    wanted = tuple(pick_shapes(shapes))
    return StepBenchOptions(
        wanted, tuple(names), backends is not None, given, turn, device, threads
    )


def measure(options: StepBenchOptions) -> dict[str, Any]:
    """Measure all shapes, one after another; JSON.

    Raises:
        ValueError: a missing device, or no backend that can run on it.
    """
    device = open_device(options.device, options.threads)
    result = {
        "bench": "step",
        "machine": describe(device, options.threads),
        "rounds": options.rounds,
        "official": OFFICIAL_SOURCE,
    }
    split = [(shape, *split_cases(shape, options, device)) for shape in options.shapes]
    left_out = [entry for _, _, refused in split for entry in refused]
    if not any(cases for _, cases, _ in split):
        raise ValueError("; ".join(dict.fromkeys(entry["reason"] for entry in left_out)))
    # First, while little else is resident; all in one process, which takes seconds to start.
    every = [case for _, cases, _ in split for case in cases]
    memory = iter(peaks(every, options.device, options.threads))
    shapes = []
    for shape, cases, _ in split:
        if not cases:
            continue
        timed, ceilings = time_cases(shape, cases, options, device)
        peak = [next(memory) for _ in cases]
        auto = {n: choose_for(shape, n, "auto", device).name for n in shape.state_dims}
        shapes.append(summarise(shape, cases, timed, ceilings, peak, auto))
    return {**result, "shapes": shapes, "left_out": left_out}


def choose_for(shape: Shape, n: int, backend: str, device: torch.device) -> Any:
    """`harness.models.scans.choose` at this shape and size."""
    return choose(
        backend,
        width=shape.width,
        state_dim=n,
        length=shape.length,
        batch=shape.batch,
        device=device,
    )


def split_cases(
    shape: Shape, options: StepBenchOptions, device: torch.device
) -> tuple[list[Case], list[dict[str, str]]]:
    """The cases to measure, by size and then backend; and the backends left out, with reasons."""
    refused = {name: refusal(shape, name, options, device) for name in options.backends}
    left_out = [
        {"shape": shape.name, "backend": name, "reason": why}
        for name, why in refused.items()
        if why
    ]
    fit = [name for name, why in refused.items() if not why]
    graphs = (False, True) if device.type == "cuda" else (False,)
    cases = [
        Case(shape, n, name, graph=graph)
        for n in shape.state_dims
        for name in fit
        for graph in graphs
    ]
    return cases, left_out


def refusal(
    shape: Shape, backend: str, options: StepBenchOptions, device: torch.device
) -> str | None:
    """Why a backend is left out at this shape; None if it is measured."""
    try:
        choose_for(shape, shape.state_dims[0], backend, device)
    except ValueError as error:
        return str(error)
    if options.named:
        return None
    if backend == "reference" and shape.length > LONGEST_REFERENCE:
        return f"a Python loop over {shape.length} steps; name it in --backends to wait for it"
    if backend == "toeplitz" and shape.width > WIDEST_TOEPLITZ:
        return f"made for widths up to {WIDEST_TOEPLITZ}; name it in --backends to see"
    return None


def time_cases(
    shape: Shape, cases: Sequence[Case], options: StepBenchOptions, device: torch.device
) -> tuple[Rounds, dict[str, float]]:
    """Timed rounds of a shape's cases and of the machine's ceilings; and the ceilings' work."""
    gemm, copy = Gemm(device), Copy(device)
    steps = {
        key(case): TrainingStep(
            shape.model(case.state_dim, case.backend), shape.info, shape.batch, device, case.graph
        )
        for case in cases
    }
    calls: dict[str, Call] = {"gemm": gemm, "copy": copy, **steps}
    timed = interleave(calls, options.rounds, turn=options.turn, wait=waiter(device))
    for name, step in steps.items():
        step.check(f"{shape.name} {name}")
    return timed, {"gemm": gemm.work, "copy": copy.work}


def key(case: Case) -> str:
    """A case's name among the rounds of its shape."""
    return f"{case.backend} {case.state_dim}{' graph' if case.graph else ''}"


def summarise(
    shape: Shape,
    cases: Sequence[Case],
    timed: Rounds,
    ceilings: dict[str, float],
    memory: Sequence[int | None],
    auto: dict[int, str],
) -> dict[str, Any]:
    """A shape's rows from its rounds: rates, ratios and speed-ups, all paired by round."""
    rows = [
        {**row_of(case, cases, timed, ceilings), "peak_bytes": peak, "auto": auto[case.state_dim]}
        for case, peak in zip(cases, memory, strict=True)
    ]
    full = shape.state_dims[0]
    official = [
        {
            "state_dim": n,
            "seconds": ms / 1e3,
            "ideal_speedup": shape.flops(full) / shape.flops(n),
            "measured_speedup": OFFICIAL_MS[shape.name, full] / ms,
        }
        for n in shape.state_dims
        if (ms := OFFICIAL_MS.get((shape.name, n))) is not None
    ]
    return {
        "shape": asdict(shape),
        "gemm_flops_per_second": as_json(timed.rate("gemm", ceilings["gemm"])),
        "copy_bytes_per_second": as_json(timed.rate("copy", ceilings["copy"])),
        "rows": rows,
        "official": official,
    }


def row_of(
    case: Case, cases: Sequence[Case], timed: Rounds, ceilings: dict[str, float]
) -> dict[str, Any]:
    """One case's row from the rounds."""
    shape, n, name = case.shape, case.state_dim, key(case)
    flops, full = shape.flops(n), shape.state_dims[0]
    row: dict[str, Any] = {
        "state_dim": n,
        "backend": case.backend,
        "graph": case.graph,
        "seconds": {**as_json(timed.spread(name)), "rounds": timed.seconds[name]},
        "first_call_seconds": timed.first[name],
        "flops": flops,
        "flops_per_second": as_json(timed.rate(name, flops)),
        "share_of_gemm": as_json(timed.share(name, flops, "gemm", ceilings["gemm"])),
        "ideal_speedup": shape.flops(full) / flops,
        "measured_speedup": as_json(timed.ratio(key(replace(case, state_dim=full)), name)),
        "faster_than_associative": None,
    }
    baseline = replace(case, backend=BASELINE)
    if baseline in cases:
        row["faster_than_associative"] = as_json(timed.ratio(key(baseline), name))
    if case == baseline and not case.graph:
        moved = shape.associative_bytes(n)
        row["bytes"] = moved
        row["bytes_per_second"] = as_json(timed.rate(name, moved))
        row["share_of_copy"] = as_json(timed.share(name, moved, "copy", ceilings["copy"]))
    return row


def as_json(spread: Spread) -> dict[str, float]:
    """Median, low and high."""
    return asdict(spread)
