"""The verbs of `harness data`: parse, call, print. Imports are delayed until needed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.tools.inputs import os_reason, shown

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Data sets.")

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Folder of data [HARNESS_DATA or data].")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="FIELD=VALUE of the task, e.g. time_channel=true.")
]


@app.command("list")
def list_tasks(data_dir: DataDir = None) -> None:
    """List the tasks: family, metric, shapes, where their data come from, and what is here."""
    from harness.tasks import data_folder
    from harness.tasks.storage.inventory import data_lines

    print("\n".join(data_lines(data_folder(data_dir))))


@app.command()
def fetch(name: str, data_dir: DataDir = None, settings: Settings = None) -> None:
    """Download and process, or generate, the data of a task; --set changes its defaults."""
    task = _task(name, data_dir, settings)
    print(f"{task.name}: {task.sizes}, fingerprint {task.fingerprint}")


@app.command()
def check(name: str, data_dir: DataDir = None, settings: Settings = None) -> None:
    """Verify a task's data, describe them, and write a sample to look at or listen to.

    If the folder is not writable, the data are still verified, without a sample.
    """
    from harness.tasks import data_folder
    from harness.tasks.base import SampleError

    task = _task(name, data_dir, settings)
    task.verify()
    print(json.dumps(task.summary(), indent=1))
    try:
        print(task.sample(data_folder(data_dir) / "samples"))
    except (SampleError, OSError) as error:
        why = os_reason(error) if isinstance(error, OSError) else error
        print(f"{name}: the data are verified; no sample was written: {why}", file=sys.stderr)


def _task(name: str, data_dir: Path | None, settings: list[str] | None) -> Any:
    from harness import tasks
    from harness.suite import TaskSpec

    if name not in tasks.names():
        raise ValueError(f"no task {shown(name, 60)}; there are {', '.join(tasks.names())}")
    return tasks.build(TaskSpec(name=name, **_fields(settings or [])), data_dir)


def _fields(settings: list[str]) -> dict[str, Any]:
    """{field: value} of FIELD=VALUE; the value is JSON, or else text."""
    fields = {}
    for setting in settings:
        field, equals, text = setting.partition("=")
        if not (field and equals):
            raise ValueError(
                f"--set needs FIELD=VALUE, such as time_channel=true; got {shown(setting)}"
            )
        if field == "name":
            raise ValueError("the task's name comes first, without --set")
        try:
            fields[field] = json.loads(text)
        except (ValueError, RecursionError):
            fields[field] = text
    return fields
