"""`harness run`, `trial` and `tune`: parse, call, print. Imports are delayed until needed."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.naming import open_store, suite_of
from harness.cli.options import (
    AcceleratorOption,
    AddressOption,
    ConcurrencyOption,
    CpusOption,
    ForkOption,
    GpusOption,
    KeepOption,
    MemoryOption,
    MetricsOption,
    NameOption,
    OnlyOption,
    RetryOption,
    SetOption,
    StoreOption,
    SuiteArgument,
)
from harness.cli.refusals import check_folder
from harness.cli.report import left_out
from harness.tools.redact import going_on, redacted_command


def run(
    suite: SuiteArgument,
    store: StoreOption = None,
    address: AddressOption = None,
    settings: SetOption = None,
    name: NameOption = None,
    only: OnlyOption = None,
    retry: RetryOption = None,
    cpus: CpusOption = None,
    gpus: GpusOption = None,
    memory: MemoryOption = None,
    accelerator: AcceleratorOption = None,
    concurrency: ConcurrencyOption = None,
    fork: ForkOption = True,
    keep: KeepOption = False,
    metrics: MetricsOption = None,
) -> int:
    """Plan, launch, record, report. Run it again to resume; trials that ended are kept."""
    wanted = suite_of(suite, settings)
    place = open_store(store, create=True)
    from harness.launch.address import default_address
    from harness.launch.preflight import default_cpus
    from harness.launch.resources import chosen
    from harness.launch.run_suite import RunOptions, run_suite
    from harness.report.rebuild import comparison_of
    from harness.report.tables import render

    command = redacted_command(["harness", *sys.argv[1:]])
    address = default_address() if address is None else address
    need = chosen(wanted.resources, cpus, gpus, memory, accelerator, default_cpus())
    options = RunOptions(
        address, only, retry or (), need.cpus, need.gpus, concurrency, fork, name,
        memory=need.memory, accelerator=need.accelerator, metrics=metrics,
    )  # fmt: skip
    with _going_on(command):
        summary = run_suite(wanted, place, command, options)
    try:
        if summary.published:
            print(render(comparison_of(name or wanted.name, place), "text"))
            print(f"Tables, figures and page: {summary.page}", file=sys.stderr)
    finally:  # nobody may be reading, or the tables may be damaged
        code = _ended(summary, command, address if keep else None)
    return code


def trial(
    spec: Annotated[Path, typer.Argument(help="A trial's spec as JSON.")],
    store: StoreOption = None,
    plugin: Annotated[
        list[str] | None,
        typer.Option(help="FILE.py or MODULE with your own code that the trial uses."),
    ] = None,
) -> None:
    """Run one trial in this process, without Ray, from its checkpoint if it has one."""
    from harness.suite.bring import bring
    from harness.suite.read import read_trial

    for name in plugin or ():
        bring(name)
    wanted = read_trial(spec)
    check_folder()
    place = open_store(store, create=True)
    from harness.training.alone import run_alone

    print(json.dumps(run_alone(wanted, place)))


def tune(
    study: Annotated[str, typer.Argument(help="MODULE.NAME or FILE.py[:NAME] of a study.")],
    store: StoreOption = None,
    address: AddressOption = None,
    storage: Annotated[
        str | None,
        typer.Option(help="sqlite:///FILE or postgresql://USER@HOST/DATABASE [the store's file]."),
    ] = None,
    name: NameOption = None,
    cpus: CpusOption = None,
    gpus: GpusOption = None,
    memory: MemoryOption = None,
    accelerator: AcceleratorOption = None,
    concurrency: ConcurrencyOption = None,
    fork: ForkOption = True,
    keep: KeepOption = False,
    metrics: MetricsOption = None,
) -> int:
    """Search truncation timing, confirm on fresh seeds, recommend. Run it again to resume."""
    from harness.launch.address import default_address
    from harness.launch.preflight import check_launch, default_cpus
    from harness.launch.resources import chosen
    from harness.launch.run_suite import RunOptions
    from harness.tune.run_study import load_study, run_study

    wanted = load_study(study)
    place = open_store(store, create=True)
    command = redacted_command(["harness", *sys.argv[1:]])
    address = default_address() if address is None else address
    need = chosen(None, cpus, gpus, memory, accelerator, default_cpus())
    options = RunOptions(
        address, None, (), need.cpus, need.gpus, concurrency, fork, name,
        memory=need.memory, accelerator=need.accelerator, metrics=metrics,
    )  # fmt: skip
    check_launch([wanted.base], address, need.cpus, need.at(address).shape_of(wanted.base).gpus)
    with _going_on(command):
        summary = run_study(wanted, place, command, options, storage)
    try:
        if summary.published:
            print(summary.records.read("answer.md").decode(), end="")
            print(f"Figures, candidates and page: {summary.page}", file=sys.stderr)
    finally:
        code = _ended(summary, command, address if keep else None)
    return code


@contextlib.contextmanager
def _going_on(command: str) -> Iterator[None]:
    """Answer Ctrl-C the same way outside a launch, for example while tables are written."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"What was done is kept. {going_on(command)}", file=sys.stderr)
        raise


def _ended(summary: Any, command: str, keep: str | None) -> int:
    """Print a run's summary and what is unfinished; returns the exit code. If the head is lost and
    `keep` is its address, the command begins anew once it is back."""
    for line in (*summary.lines(), *summary.unfinished):
        print(line, file=sys.stderr)
    said = "\n".join(summary.unfinished)
    code = left_out(line for line in summary.damaged if line not in said)
    if summary.interrupted:
        print(f"What was done is kept. {going_on(command)}", file=sys.stderr)
        raise KeyboardInterrupt
    if summary.lost and keep is not None:
        from harness.launch.keep import go_on_when_back

        with _going_on(command):
            go_on_when_back(keep)
    if summary.lost:
        print(
            "The head of the Ray cluster was lost; what was done is kept. Once the cluster is up "
            f"again: {going_on(command)}",
            file=sys.stderr,
        )
    return 3 if summary.unfinished or summary.lost else code
