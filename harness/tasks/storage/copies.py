"""Copies of a task's data on several machines: are they there, and the same? Reads no data."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.tasks.own.content import content_sha256
from harness.tasks.specs import TaskSpecBase
from harness.tasks.specs.own import OwnSpec
from harness.tasks.storage.mapped import UnusableError, only_place, read_index

LARGEST = 256 * 2**20  # bytes of a user's file that is read to compare it


@dataclass(frozen=True)
class DataSet:
    """Processed data of a task, in `folder` below the data folder. `path` is the user's file or
    folder that they are made from, and `sha256`, hex, that of a single file. Both are empty if they
    are made from archives, which any machine can fetch."""

    task: str
    folder: str
    path: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Copy:
    """What a machine has of a data set: the SHA-256 of what its arrays hold, hex, if they are
    `there`."""

    state: Literal["there", "missing", "unusable", "unavailable", "changed"]
    fingerprint: str = ""


def data_set(task: TaskSpecBase) -> DataSet | None:
    """The data of a task that come from archives or the user's files; None for others, and for
    tasks of plug-ins, whose code alone knows.

    Raises:
        ValueError: the user's files have changed.
    """
    if not task.from_archives or not type(task).__module__.startswith("harness."):
        return None
    from harness import tasks

    top = Path("/data")  # any: it is only named
    place = only_place(lambda: tasks.build_anew(task, top))
    if place is None:
        return None
    path, sha256 = "", ""
    if isinstance(task, OwnSpec):
        path, sha256 = task.path, task.seen("sha256")
        # A file that only lists others has another checksum than what it stands for.
        file = Path(path)
        if not file.is_file() or content_sha256(file, [file]) != sha256:
            sha256 = ""
    return DataSet(task.task_name(), place.relative_to(top).as_posix(), path, sha256)


def copy_of(data: DataSet, data_dir: Path) -> Copy:
    """What this machine has of a data set in its data folder."""
    if data.path and (lack := _lack(Path(data.path), data.sha256)):
        return Copy(lack)
    folder = data_dir / data.folder
    try:
        return Copy("there", _fingerprint(folder, read_index(folder)))
    except (FileNotFoundError, NotADirectoryError):
        return Copy("missing")
    except (UnusableError, OSError, LookupError, TypeError):
        return Copy("unusable")


def _lack(path: Path, sha256: str) -> Literal["unavailable", "changed"] | None:
    """What keeps a user's file or folder from being used here. Large ones are compared by the
    trials that read them."""
    try:
        if not path.is_file():
            return None if path.is_dir() else "unavailable"
        if not sha256 or path.stat().st_size > LARGEST:
            return None
        with path.open("rb") as file:
            same = hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return "unavailable"
    return None if same else "changed"


def _fingerprint(folder: Path, index: dict[str, Any]) -> str:
    for name, entry in index["arrays"].items():
        if (folder / f"{name}.npy").stat().st_size != entry["bytes"]:
            raise UnusableError(f"lacks a whole {name}.npy")
    content = [
        (name, entry["dtype"], list(entry["shape"]), entry["sha256"])
        for name, entry in sorted(index["arrays"].items())
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


__all__ = ["Copy", "DataSet", "copy_of", "data_set"]
