"""Tasks: data plus metric. Importing this is cheap; the data's libraries load with `build`."""

from __future__ import annotations

import functools
import importlib
import os
from pathlib import Path

from harness.inputs import shown, user_path
from harness.tasks.base import SPLITS, Task, TaskInfo
from harness.tasks.batches import step_indices
from harness.tasks.room import check_memory
from harness.tasks.specs import (
    TASK_SPECS,
    DigitsSpec,
    ListopsSpec,
    PylibSpec,
    TaskSpecBase,
    VowelsSpec,
)

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

# Where each task's class lives; imported on demand, since these files need torch, scipy.
_CLASSES = {
    "aan": ("harness.tasks.aan", "Aan"),
    "digits": ("harness.tasks.long_range", "Digits"),
    "enwik8": ("harness.tasks.corpora", "Enwik8"),
    "imdb": ("harness.tasks.imdb", "Imdb"),
    "listops": ("harness.tasks.listops", "Listops"),
    "pathfinder": ("harness.tasks.pathfinder", "Pathfinder"),
    "pathfinder_generated": ("harness.tasks.pathfinder_generated", "PathfinderGenerated"),
    "pathx": ("harness.tasks.pathfinder", "Pathfinder"),
    "psmnist": ("harness.tasks.mnist", "Mnist"),
    "pylib": ("harness.tasks.language", "Pylib"),
    "sc10": ("harness.tasks.speech_commands", "SpeechCommands"),
    "scifar": ("harness.tasks.cifar", "Cifar"),
    "smnist": ("harness.tasks.mnist", "Mnist"),
    "speech_commands": ("harness.tasks.speech_commands", "SpeechCommands"),
    "text8": ("harness.tasks.corpora", "Text8"),
    "vowels": ("harness.tasks.audio", "Vowels"),
    "wikitext103": ("harness.tasks.corpora", "Wikitext103"),
}


def names() -> list[str]:
    """The tasks that exist, in alphabetical order."""
    return sorted(_CLASSES)


def default_data_dir() -> Path:
    """Where generated and downloaded data live: `HARNESS_DATA`, or `data` where that is unset."""
    return user_path(os.environ.get("HARNESS_DATA") or "data", "HARNESS_DATA")


def data_folder(given: str | Path | None) -> Path:
    """The folder of data that a user gives, `default_data_dir()` for none: absolute, without `~`.

    Raises ValueError for a path that is none.
    """
    return default_data_dir() if given is None else user_path(given, "the data folder")


def build(task_spec: TaskSpecBase, data_dir: str | Path | None = None) -> Task:
    """Read, or generate and cache, the data of `task_spec`.

    The two tasks built last are kept in memory, so that the trials of one worker share them.
    Raises ValueError where the data cannot be had, with one line that says why.
    """
    if not isinstance(task_spec, TaskSpecBase):
        raise ValueError(f"build takes a task spec such as DigitsSpec; got {shown(task_spec)}")
    return _build(task_spec, data_folder(data_dir))


@functools.lru_cache(maxsize=2)
def _build(task_spec: TaskSpecBase, data_dir: Path) -> Task:
    name = getattr(task_spec, "name", None)
    if name not in _CLASSES:
        raise ValueError(f"no task named {shown(name)}; the tasks are {', '.join(names())}")
    module, class_name = _CLASSES[name]
    check_memory(name, task_spec.data_bytes or 0)
    try:
        task = getattr(importlib.import_module(module), class_name)(task_spec, data_dir)
    except MemoryError as error:
        raise ValueError(f"{name}: there is not enough memory for its data") from error
    assert isinstance(task, Task)
    return task
