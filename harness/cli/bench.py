"""The verbs of `harness bench`: parse, call, print. Imports are delayed until needed."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Measure speed on this machine."
)

Quick = Annotated[bool, typer.Option("--quick", help="Under a minute on two quiet cores.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Threads = Annotated[int, typer.Option(help="CPU threads.")]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
RoundsOption = Annotated[int | None, typer.Option(help="Interleaved rounds.")]


@app.command()
def step(
    quick: Quick = False,
    as_json: AsJson = False,
    backends: Annotated[str | None, typer.Option(help="Names, comma-separated.")] = None,
    shapes: Annotated[str | None, typer.Option(help="smnist, scifar, listops.")] = None,
    threads: Threads = 2,
    device: Device = "cpu",
    rounds: RoundsOption = None,
) -> None:
    """Time, rates and memory of a training step, by shape, N and backend."""
    from harness.bench import step_bench as bench
    from harness.bench import step_table

    options = bench.step_bench_options(
        quick=quick,
        backends=backends,
        shapes=shapes,
        threads=threads,
        device=device,
        rounds=rounds,
    )
    _print(bench.measure(options), step_table.lines, as_json)


@app.command()
def truncation(
    quick: Quick = False,
    as_json: AsJson = False,
    threads: Threads = 2,
    device: Device = "cpu",
    rounds: RoundsOption = None,
) -> None:
    """Cost of spectra and truncation, by N, H, blocks and rank; the steps after it."""
    from harness.bench import truncation_bench as bench
    from harness.bench import truncation_table

    options = bench.truncation_bench_options(
        quick=quick, threads=threads, device=device, rounds=rounds
    )
    _print(bench.measure(options), truncation_table.lines, as_json)


@app.command()
def regularizer(
    quick: Quick = False,
    as_json: AsJson = False,
    threads: Threads = 2,
    device: Device = "cpu",
    rounds: RoundsOption = None,
) -> None:
    """What the Hankel nuclear norm adds to a training step, by method, shape and N."""
    from harness.bench import regularizer_bench as bench

    found = bench.measure(quick=quick, threads=threads, device=device, rounds=rounds)
    _print(found, bench.lines, as_json)


@app.command()
def weighting(
    quick: Quick = False,
    as_json: AsJson = False,
    threads: Threads = 2,
    device: Device = "cpu",
    rounds: RoundsOption = None,
    batches: Annotated[int | None, typer.Option(help="Calibration batches.")] = None,
) -> None:
    """What a decomposition weighted by data costs beyond its passes, in seconds and memory."""
    from harness.bench import weighting_bench as bench

    found = bench.measure(
        quick=quick, threads=threads, device=device, rounds=rounds, batches=batches
    )
    _print(found, bench.lines, as_json)


@app.command()
def selective(
    quick: Quick = False,
    as_json: AsJson = False,
    threads: Threads = 2,
    rounds: RoundsOption = None,
    batches: Annotated[int, typer.Option(help="Calibration batches of what is timed.")] = 2,
) -> None:
    """What truncations of Mamba and Mamba-2 lose by method and basis, and what they cost."""
    from harness.bench import selective_bench as bench

    found = bench.measure(quick=quick, threads=threads, rounds=rounds, batches=batches)
    _print(found, bench.lines, as_json)


@app.command()
def layers(
    quick: Quick = False,
    as_json: AsJson = False,
    threads: Threads = 2,
    rounds: RoundsOption = None,
) -> None:
    """Training passes of S5, S4D, Mamba and Mamba-2: against the plain recurrence, others' layers,
    and fewer states."""
    from harness.bench import layers_bench as bench

    found = bench.measure(quick=quick, threads=threads, rounds=rounds)
    _print(found, bench.lines, as_json)


@app.command()
def launch(
    quick: Quick = False,
    as_json: AsJson = False,
    trials: Annotated[int | None, typer.Option(help="Tiny trials to run.")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Trials at a time.")] = None,
) -> None:
    """Overhead per trial (launch, record, mirror), and trials per second."""
    from harness.bench import launch_bench as bench

    _print(bench.measure(bench.count(trials, quick), concurrency), bench.lines, as_json)


@app.command()
def driver(
    quick: Quick = False,
    as_json: AsJson = False,
    workers: Annotated[int | None, typer.Option(min=1, max=100_000, help="Workers.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Seconds a trial takes.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Trials of each worker.")] = None,
) -> None:
    """Whether one driver keeps thousands of simulated workers busy."""
    from harness.bench import driver_bench as bench

    workers = workers or (bench.QUICK_WORKERS if quick else bench.WORKERS)
    seconds = seconds or (5.0 if quick else bench.TRIAL_SECONDS)
    _print(bench.measure(workers, seconds, rounds or bench.ROUNDS), bench.lines, as_json)


@app.command()
def cluster(
    quick: Quick = False,
    as_json: AsJson = False,
    trials: Annotated[int | None, typer.Option(min=40, max=100_000, help="Trials.")] = None,
    nodes: Annotated[int, typer.Option(min=1, max=64, help="Ray nodes on this machine.")] = 3,
    store: Annotated[str | None, typer.Option(help="An empty store [a temporary one].")] = None,
) -> None:
    """Trials that train nothing on several nodes, one killed half-way; then tables of so many."""
    from harness.bench import cluster_bench as bench

    trials = trials or (bench.QUICK_TRIALS if quick else bench.TRIALS)
    _print(bench.measure(trials, nodes, store), bench.lines, as_json)


@app.command()
def transfer(
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="A suite that was run.")] = "signal",
    store: Annotated[str | None, typer.Option(help="Folder of records.")] = None,
    order: Annotated[int, typer.Option(min=1, help="States that are kept.")] = 12,
    as_json: AsJson = False,
) -> None:
    """What a truncation by one input's Gramians loses on other inputs; no speed."""
    from harness.bench import transfer_bench as bench

    _print(bench.measure(suite, store, order), bench.lines, as_json)


def _print(result: dict[str, Any], lines: Any, as_json: bool) -> None:
    print(json.dumps(result) if as_json else "\n".join(lines(result)))
