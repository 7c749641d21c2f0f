"""Options that several verbs share."""

from __future__ import annotations

from typing import Annotated

import typer

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store", help="Folder or s3://BUCKET/PREFIX of records [HARNESS_STORE or results/local]."
    ),
]
SuiteArgument = Annotated[str, typer.Argument(help="NAME, MODULE.NAME or FILE.py[:NAME].")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="PATH=VALUE, e.g. training.steps=200.")
]

NameOption = Annotated[
    str | None,
    typer.Option("--name", help="Record it under this name, next to the records under its own."),
]
KeepOption = Annotated[
    bool,
    typer.Option("--keep", help="If the cluster's head is lost, wait for a new one and go on."),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        help="local, auto, or a Ray cluster's HOST:PORT [local; in a Ray job, its cluster]."
    ),
]
OnlyOption = Annotated[str | None, typer.Option(help="Glob over TASK/LABEL of the rows.")]
RetryOption = Annotated[
    list[str] | None, typer.Option(help="Run trials again that ended as: failed or diverged.")
]
CpusOption = Annotated[
    int | None,
    typer.Option(min=1, max=2**20, help="CPU cores of one trial [HARNESS_THREADS or 1]."),
]
GpusOption = Annotated[
    str | None,
    typer.Option(
        help="GPUs of one trial, a fraction of one, or auto: as many trials on a GPU as fit [0].",
    ),
]
MemoryOption = Annotated[
    str | None, typer.Option(help="Memory that Ray sets aside for one trial, e.g. 8GB.")
]
AcceleratorOption = Annotated[
    str | None, typer.Option(help="Type of its GPUs, as Ray names it, e.g. A100.")
]
ConcurrencyOption = Annotated[int | None, typer.Option(min=1, max=2**20, help="Trials at a time.")]
ForkOption = Annotated[
    bool, typer.Option("--fork/--no-fork", help="Train steps that trials have in common only once.")
]
MetricsOption = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="[HOST:]PORT",
        help="Serve Prometheus metrics while trials run [off; without HOST to this machine only].",
    ),
]
