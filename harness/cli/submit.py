"""`harness submit`: parse, call, print. Imports are delayed until needed."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from harness.cli.naming import suite_of
from harness.cli.options import (
    ConcurrencyOption,
    CpusOption,
    ForkOption,
    GpusOption,
    NameOption,
    OnlyOption,
    RetryOption,
    SetOption,
    SuiteArgument,
)


def submit(
    suite: SuiteArgument,
    to: Annotated[str, typer.Option(help="HOST[:PORT] or URL of the cluster's dashboard.")],
    store: Annotated[
        str, typer.Option(help="Folder of records, absolute, that all nodes of the cluster see.")
    ],
    settings: SetOption = None,
    name: NameOption = None,
    only: OnlyOption = None,
    retry: RetryOption = None,
    cpus: CpusOption = None,
    gpus: GpusOption = 0.0,
    concurrency: ConcurrencyOption = None,
    fork: ForkOption = True,
    follow: Annotated[
        bool, typer.Option("--follow", help="Show the output until it ends.")
    ] = False,
) -> int:
    """Run a suite on a cluster as a job of its own, which goes on when this command has ended."""
    from harness.launch import submit as jobs
    from harness.tools.inputs import shown

    if not store.startswith("/"):
        raise ValueError(f"--store of a job is an absolute path on the cluster, not {shown(store)}")
    url = jobs.dashboard(to)
    suite_of(suite, settings)  # what is wrong with it is said here
    options = [f"--store={store}", f"--gpus={gpus:g}"]
    for option, value in (
        ("name", name),
        ("only", only),
        ("cpus", cpus),
        ("concurrency", concurrency),
    ):
        options += [f"--{option}={value}"] if value is not None else []
    options += [f"--set={one}" for one in settings or ()]
    options += [f"--retry={one}" for one in retry or ()]
    options += [] if fork else ["--no-fork"]
    job = jobs.submit(url, suite, options)
    print(job)
    told = f"RAY_ADDRESS={url} ray job"
    print(f"Watch it: {told} logs --follow {job}", file=sys.stderr)
    print(f"Stop it: {told} stop {job}", file=sys.stderr)
    return jobs.follow(url, job) if follow else 0
