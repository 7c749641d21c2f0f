"""The verbs of `harness cluster`: parse, call, print. Imports are delayed until needed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.naming import open_store
from harness.cli.options import StoreOption

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Clusters, from one file.")


@app.command()
def render(
    file: Annotated[Path, typer.Argument(help="FILE.toml or FILE.json with a description.")],
    target: Annotated[
        str,
        typer.Option(
            "--for",
            help="hosts, slurm, slurm-array, kubernetes, rayjob, aws, gcp or skypilot.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option(help="Write the files into this folder [print the file].")
    ] = None,
) -> None:
    """Print or write the files that start a cluster there."""
    from harness.cluster import read_cluster, write
    from harness.cluster import render as rendered

    files = rendered(read_cluster(file), target)
    if output is not None:
        for path in write(files, output):
            print(path)
    elif len(files) > 1:
        raise ValueError(f"--for {target} makes {', '.join(files)}: give --output FOLDER")
    else:
        sys.stdout.write(next(iter(files.values())))


@app.command()
def drain(
    nodes: Annotated[
        list[str] | None,
        typer.Argument(help="Host names or addresses, to be marked in the store [this machine]."),
    ] = None,
    store: StoreOption = None,
    undo: Annotated[bool, typer.Option("--undo", help="Remove the marks.")] = False,
    seconds: Annotated[
        int | None,
        typer.Option(
            min=0, max=86_400, help="Until the machine is gone, for Ray's own drain [60]."
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Return when nothing runs here any more (Ray's drain).")
    ] = False,
) -> None:
    """Move trials away from this machine, which is about to go, by telling Ray; or from nodes, by a
    mark in the store (with NODES, --store or --undo), which holds until it is removed."""
    if not (nodes or undo or store is not None):
        from harness.launch.drain import drain_this_node

        print(drain_this_node(60 if seconds is None else seconds, wait))
        return
    if wait or seconds is not None:
        raise ValueError(
            "--wait and --seconds are for this machine and Ray's own drain: without NODES, --store "
            "and --undo"
        )
    from harness.records.drained import mark_drained, unmark_drained

    place = open_store(store, create=True)
    if not place.is_there():
        raise ValueError(f"there is no store {place.address}")
    for node in nodes or [os.uname().nodename]:
        done = (unmark_drained if undo else mark_drained)(place, node)
        if undo:
            print(f"{node} takes trials again" if done else f"{node} was not drained")
        else:
            print(f"{node} is drained" if done else f"{node} was drained already")
