"""The verbs; thin: parse, call, print. Heavy imports wait until a verb needs them."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from harness import streams
from harness.bench.commands import app as bench
from harness.data_commands import app as data
from harness.inputs import shown
from harness.naming import open_store, planned, recorded_name, suite_of
from harness.options import (
    AddressOption,
    ConcurrencyOption,
    CpusOption,
    ForkOption,
    GpusOption,
    NameOption,
    SetOption,
    StoreOption,
    SuiteArgument,
)
from harness.redact import going_on, redacted_command
from harness.refusals import plain, say, unusable

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Compare the ways to a small state-space model, at equal size and by counted cost.",
)

INTERRUPTED = 130


def _somewhere() -> None:
    """Refuse a working directory that is gone: torch's libraries end a process that has none."""
    os.getcwd()


@app.command()
def plan(
    suite: SuiteArgument,
    store: StoreOption = None,
    settings: SetOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show trials by stage, done and missing, with estimated FLOPs, time, disk; changes nothing."""
    from harness.estimate import summary
    from harness.plan import Plan

    found, is_study = planned(suite, store)
    place = open_store(store, create=False)
    if is_study:
        from harness.tune.outlook import outlook, outlook_lines

        if settings:
            raise ValueError("--set is for suites; a study is changed in its file")
        expected = outlook(found, place)
        print(json.dumps(expected) if as_json else "\n".join(outlook_lines(expected)))
        return
    from harness.suite import override

    result = summary(Plan(override(found, settings or []), place))
    if as_json:
        print(json.dumps(result))
        return
    from harness.listing import plan_lines

    print("\n".join(plan_lines(result)))


@app.command()
def run(
    suite: SuiteArgument,
    store: StoreOption = None,
    address: AddressOption = "local",
    settings: SetOption = None,
    name: NameOption = None,
    only: Annotated[str | None, typer.Option(help="Glob over TASK/LABEL of the rows.")] = None,
    retry: Annotated[
        list[str] | None, typer.Option(help="Run again what ended so: failed or diverged.")
    ] = None,
    cpus: CpusOption = None,
    gpus: GpusOption = 0.0,
    concurrency: ConcurrencyOption = None,
    fork: ForkOption = True,
) -> int:
    """Plan, launch, record, report. Running it again resumes; ended trials are kept."""
    for status in retry or ():
        if status not in ("failed", "diverged"):
            raise ValueError(f"--retry takes failed or diverged, not {shown(status)}")
    wanted = suite_of(suite, settings)
    place = open_store(store, create=True)
    from harness.checks import default_cpus
    from harness.rebuild import comparison_of
    from harness.report.tables import render
    from harness.run import Wishes, run_suite

    command = redacted_command(["harness", *sys.argv[1:]])
    cpus = cpus or default_cpus()
    wishes = Wishes(address, only, retry or (), cpus, gpus, concurrency, fork, name)
    with _going_on(command):
        account = run_suite(wanted, place, command, wishes)
    try:
        if account.published:
            print(render(comparison_of(name or wanted.name, place), "text"))
            print(f"Tables, figures and page: {account.page}", file=sys.stderr)
    finally:  # nobody may be reading, or the tables be damaged
        code = _ended(account, command)
    return code


@app.command()
def trial(
    spec: Annotated[Path, typer.Argument(help="A trial's spec as JSON.")],
    store: StoreOption = None,
    plugin: Annotated[
        list[str] | None, typer.Option(help="FILE.py or MODULE with code of your own that it uses.")
    ] = None,
) -> None:
    """Run one trial in this process, without Ray; resume it from its checkpoint."""
    from harness.suite.bring import bring
    from harness.suite.read import read_trial

    for name in plugin or ():
        bring(name)
    wanted = read_trial(spec)
    _somewhere()
    place = open_store(store, create=True)
    from harness.training.alone import run_alone

    print(json.dumps(run_alone(wanted, place)))


@app.command()
def tune(
    study: Annotated[str, typer.Argument(help="MODULE.NAME or FILE.py[:NAME] of a study.")],
    store: StoreOption = None,
    address: AddressOption = "local",
    storage: Annotated[
        str | None,
        typer.Option(help="sqlite:///FILE or postgresql://USER@HOST/DATABASE [the store's file]."),
    ] = None,
    name: NameOption = None,
    cpus: CpusOption = None,
    gpus: GpusOption = 0.0,
    concurrency: ConcurrencyOption = None,
    fork: ForkOption = True,
) -> int:
    """Search truncation timing, confirm on fresh seeds, recommend. Run it again to go on."""
    from harness.checks import check_launch, default_cpus
    from harness.run import Wishes
    from harness.tune.run import load_study, run_study

    wanted = load_study(study)
    place = open_store(store, create=True)
    command = redacted_command(["harness", *sys.argv[1:]])
    cpus = cpus or default_cpus()
    check_launch([wanted.base], address, cpus, gpus)
    wishes = Wishes(address, None, (), cpus, gpus, concurrency, fork, name)
    with _going_on(command):
        account = run_study(wanted, place, command, wishes, storage)
    answer = account.page.with_name("answer.md")
    try:
        if account.published:
            print(answer.read_text("utf-8"), end="")
            print(f"Figures, candidates and page: {account.page}", file=sys.stderr)
    finally:
        code = _ended(account, command)
    return code


@contextlib.contextmanager
def _going_on(command: str) -> Iterator[None]:
    """Ctrl-C where no launch looks for it, in the middle of tables say, is answered alike."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"What was done is kept. {going_on(command)}", file=sys.stderr)
        raise


def _ended(account: Any, command: str) -> int:
    """Say what a run took and what is left; the exit code."""
    from harness.report_command import left_out

    for line in (*account.lines(), *account.unfinished):
        print(line, file=sys.stderr)
    said = "\n".join(account.unfinished)
    code = left_out(line for line in account.damaged if line not in said)
    if account.interrupted:
        print(f"What was done is kept. {going_on(command)}", file=sys.stderr)
        raise KeyboardInterrupt
    return 3 if account.unfinished else code


@app.command()
def report(
    suite: SuiteArgument,
    store: StoreOption = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare every file of its trials with its checksum.")
    ] = False,
) -> int:
    """Rebuild tables, figures and page, of a suite or a study, from records alone."""
    place = open_store(store, create=True)
    name, is_study = recorded_name(suite, place)
    from harness.report_command import report_anew

    return report_anew(name, is_study, place, verify)


@app.command()
def table(
    suite: SuiteArgument,
    store: StoreOption = None,
    format: Annotated[str, typer.Option(help="text, md, csv, tex, html or json.")] = "text",
) -> None:
    """Print the comparison table; of a study, that on fresh seeds once there is one."""
    from harness.rebuild import comparison_of, lacking
    from harness.report.tables import render

    place = open_store(store, create=False)
    name, is_study = recorded_name(suite, place)
    if is_study:
        from harness.tune.rebuild import newest_comparison

        name = newest_comparison(name, place)
    print(render(comparison_of(name, place), format))
    for line in lacking(name, place):
        say(f"note: {line}")


@app.command()
def claims(
    suite: Annotated[
        str | None, typer.Argument(help="Only what this suite decides, e.g. paper.scifar.")
    ] = None,
    store: StoreOption = None,
    claims_file: Annotated[
        Path | None, typer.Option("--claims", help="A file of other claims [those of the paper].")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say of each published claim whether what the store holds reproduces it."""
    from harness.claims_command import claims_text

    print(claims_text(open_store(store, create=False), suite, claims_file, as_json))


app.add_typer(data, name="data")
app.add_typer(bench, name="bench")


@app.command()
def ui(
    store: StoreOption = None,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
) -> None:
    """Open MLflow's page on the store's mirror, on this machine only."""
    place = open_store(store, create=False)
    if not (place.root / "mlflow.db").is_file():
        raise ValueError(f"{place.root} has no mirror yet: harness run or harness report makes it")
    from harness.records.mlflow_io import server_arguments

    arguments = [*server_arguments(), "--host", "127.0.0.1", "--port", str(port)]
    os.chdir(place.root)
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "server", *arguments])


@app.command()
def doctor() -> None:
    """Show versions, devices and what works here."""
    from harness.doctor import examine

    _somewhere()
    for line in examine():
        print(line)


def main() -> None:
    """Run a verb: 0 done, 2 bad input, 3 some trials failed, 130 interrupted."""
    streams.prepare()
    sys.exit(streams.finish(execute(sys.argv[1:])))


def execute(arguments: list[str]) -> int:
    """The exit code of a command line; bad input is one line on standard error."""
    refused = unusable(arguments)
    if refused is not None:
        return _refuse(refused)
    command = typer.main.get_command(app)
    try:
        code = command.main(arguments, prog_name="harness", standalone_mode=False)
    except KeyboardInterrupt:
        return _refuse("interrupted", INTERRUPTED)
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message(), file=sys.stderr)  # type: ignore[attr-defined]
            return 2
        message = plain(error)
        if message is None:
            raise
        return _refuse(message, getattr(error, "exit_code", 2))
    if code == INTERRUPTED:  # typer's answer to Ctrl-C, which says nothing
        return _refuse("interrupted", INTERRUPTED)
    return code if isinstance(code, int) else 0


def _refuse(message: str, code: int = 2) -> int:
    say(message)
    return code
