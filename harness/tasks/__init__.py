"""Tasks: data plus metric. Importing this is cheap; libraries for the data load in `build`."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path

from harness import environment
from harness.tasks.base import SPLITS, Task, TaskInfo
from harness.tasks.batches import step_indices
from harness.tasks.specs import (
    TASK_SPECS,
    DigitsSpec,
    ListopsSpec,
    PylibSpec,
    TaskSpecBase,
    VowelsSpec,
)
from harness.tasks.storage.capacity import check_memory
from harness.tools.inputs import shown, user_path

__all__ = [
    "SPLITS",
    "TASK_SPECS",
    "DigitsSpec",
    "ListopsSpec",
    "PylibSpec",
    "Task",
    "TaskInfo",
    "TaskSpecBase",
    "VowelsSpec",
    "build",
    "data_folder",
    "default_data_dir",
    "names",
    "step_indices",
]


def names() -> list[str]:
    """The tasks that exist, in alphabetical order."""
    return sorted(spec.task_name() for spec in TASK_SPECS)


def default_data_dir() -> Path:
    """The folder of generated and downloaded data: `HARNESS_DATA`, or `data` if that is unset."""
    return environment.DATA.get()


def data_folder(given: str | Path | None) -> Path:
    """The folder of data that a user gives, `default_data_dir()` for none: absolute, without `~`.

    Raises ValueError for an invalid path.
    """
    return default_data_dir() if given is None else user_path(given, "the data folder")


def build(task_spec: TaskSpecBase, data_dir: str | Path | None = None) -> Task:
    """Read, or generate and cache, the data of `task_spec`.

    The two tasks built last are kept in memory, so that the trials of one worker share them.
    Raises ValueError if the data cannot be obtained, with one line that says why.
    """
    if not isinstance(task_spec, TaskSpecBase):
        raise ValueError(f"build takes a task spec such as DigitsSpec; got {shown(task_spec)}")
    return _build(task_spec, data_folder(data_dir))


@functools.lru_cache(maxsize=2)
def _build(task_spec: TaskSpecBase, data_dir: Path) -> Task:
    return build_anew(task_spec, data_dir)


def build_anew(task_spec: TaskSpecBase, data_dir: Path) -> Task:
    """As `build`, but never from memory."""
    name = task_spec.task_name()
    check_memory(name, task_spec.data_bytes or 0)
    make = task_spec.implementation
    if isinstance(make, str):
        module, _, class_name = make.partition(":")
        make = getattr(importlib.import_module(module), class_name)
    try:
        task = make(task_spec, data_dir)
    except MemoryError as error:
        raise ValueError(f"{name}: there is not enough memory for its data") from error
    if not isinstance(task, Task):
        raise ValueError(f"task {name} makes {shown(task)}, no harness.tasks.Task")
    return task
