"""The verbs of `harness cluster`: parse, call, print. Imports are delayed until needed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

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
    seconds: Annotated[
        int, typer.Option(min=0, max=86_400, help="Until the machine is gone.")
    ] = 60,
) -> None:
    """Tell Ray that this machine is about to go: it gets no more work, and what runs goes on."""
    from harness.launch.drain import drain_this_node

    print(drain_this_node(seconds))
