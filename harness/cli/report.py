"""Showing records: `harness report`, `table` and `ui`. Imports are delayed until needed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from harness import environment
from harness.cli.naming import open_store, recorded_name
from harness.cli.options import StoreOption, SuiteArgument
from harness.tools.listening import check_listening, exposed
from harness.tools.notes import say
from harness.tools.redact import redacted

if TYPE_CHECKING:
    from harness.records.store import Store


def report(
    suite: SuiteArgument,
    store: StoreOption = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check every file of its trials against its checksum.")
    ] = False,
) -> int:
    """Rebuild the tables, figures and page of a suite or study from records alone."""
    place = open_store(store, create=True)
    name, is_study = recorded_name(suite, place)
    return report_anew(name, is_study, place, verify)


def table(
    suite: SuiteArgument,
    store: StoreOption = None,
    format: Annotated[str, typer.Option(help="text, md, csv, tex, html or json.")] = "text",
    over: Annotated[
        str | None,
        typer.Option(
            help="Print differences instead, paired by seed: over the row of this label, or, for "
            "FIELD=VALUE (gramians=white), over the same arm with that value."
        ),
    ] = None,
) -> None:
    """Print the comparison table; for a study, the one on fresh seeds if it exists."""
    from harness.report.rebuild import comparison_of, differences_of, lacking

    place = open_store(store, create=False)
    name, is_study = recorded_name(suite, place)
    if is_study:
        from harness.tune.rebuild_study import newest_comparison

        name = newest_comparison(name, place)
    if over is None:
        from harness.report.tables import render

        print(render(comparison_of(name, place), format))
    else:
        from harness.report.over_table import render_over

        print(render_over(differences_of(name, place, over), format), end="")
    for line in lacking(name, place):
        say(f"note: {line}")


def ui(
    store: StoreOption = None,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
    host: Annotated[
        str, typer.Option(help="Address to listen at: beyond loopback, others reach it.")
    ] = "127.0.0.1",
) -> None:
    """Serve MLflow's page on the store's mirror, to this machine only unless --host says more."""
    place = open_store(store, create=False)
    server = environment.MLFLOW.get()
    if server is not None:
        raise ValueError(f"HARNESS_MLFLOW is set: the suites are shown at {redacted(server)}")
    if not place.is_folder:
        raise ValueError(f"{place.address} is no folder, so it has no mirror for MLflow to show")
    if not place.has_mirror():
        raise ValueError(
            f"{place.address} has no mirror yet: harness run or harness report makes it"
        )
    from harness.records.mirror.mlflow_io import server_arguments

    check_listening(host, port)
    warning = exposed(host, port, "read and change what MLflow shows, without a password")
    if warning:
        say(f"{warning}; cluster/services.md has a server with passwords")
    arguments = [*server_arguments(), "--host", host, "--port", str(port)]
    os.chdir(place.root)
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "server", *arguments])


def report_anew(name: str, is_study: bool, store: Store, verify: bool) -> int:
    """Rebuild the report and print the path of its page; returns the exit code.

    With `verify`, also check every file of its trials against its checksum.

    Raises:
        ValueError: no record of the suite or study in this store.
    """
    if is_study:
        from harness.tune.rebuild_study import rebuild_study, trials_of_study

        damaged = rebuild_study(name, store)
    else:
        from harness.report.rebuild import rebuild, trials_of

        damaged = rebuild(name, store)
    print(store.suite(name).page)
    from harness.report.rebuild import lacking

    for line in lacking(name, store):
        say(f"note: {line}")
    if verify:
        from harness.records.verify import verify as compare

        trials = trials_of_study(name, store) if is_study else trials_of(name, store)
        found, said = compare(store, trials)
        print(said, file=sys.stderr)
        damaged += [line for line in found if line not in damaged]
    return left_out(damaged)


def left_out(damaged: Iterable[str]) -> int:
    """Print which records are damaged, and return the exit code. All others are reported."""
    lines = list(damaged)
    for line in lines:
        print(line, file=sys.stderr)
    return 3 if lines else 0
