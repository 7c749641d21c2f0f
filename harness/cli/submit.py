"""`harness submit`: parse, call, print. Imports are delayed until needed."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from harness.cli.naming import suite_of
from harness.cli.options import (
    AcceleratorOption,
    ConcurrencyOption,
    CpusOption,
    ForkOption,
    GpusOption,
    MemoryOption,
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
        str,
        typer.Option(help="Records: a folder that all nodes see, absolute, or s3://BUCKET/PREFIX."),
    ],
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
    follow: Annotated[
        bool, typer.Option("--follow", help="Show the output until it ends.")
    ] = False,
) -> int:
    """Run a suite on a cluster as a job of its own, which goes on when this command has ended."""
    from harness.launch import submit as jobs
    from harness.launch.resources import chosen
    from harness.tools.inputs import is_address, shown

    if not store.startswith("/") and not is_address(store):
        raise ValueError(
            f"--store of a job is an absolute path on the cluster or an address like s3://BUCKET, "
            f"not {shown(store)}"
        )
    url = jobs.dashboard(to)
    wanted = suite_of(suite, settings)  # what is wrong with it is said here
    chosen(wanted.resources, cpus, gpus, memory, accelerator, 1)
    options = [f"--store={store}"]
    for option, value in (
        ("name", name),
        ("only", only),
        ("cpus", cpus),
        ("gpus", gpus),
        ("memory", memory),
        ("accelerator", accelerator),
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
