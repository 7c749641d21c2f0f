"""Processed data on disk, mapped into memory: built once, whole or absent, shared by processes.

    DATA_DIR/TASK/<16 hex digits>/index.json  NAME.npy ...

The digits are of the options that decide the content. The arrays are only ever opened as read-only
maps, so a set is never copied into a process, and trials on one node share its pages.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.tasks.storage.archive_records import recorded_sha256
from harness.tasks.storage.builder import Builder, array_sha256, stamp, sync
from harness.tasks.storage.download import waived
from harness.tasks.storage.locks import locked
from harness.tools.inputs import os_reason, parse_json, read_bounded

FORMAT = 1
INDEX = "index.json"
# What the readers raise for an incomplete file.
_BROKEN = (
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    SyntaxError,
)


class UnusableError(Exception):
    """A cache that must be built again, and why."""


class _PlaceError(Exception):
    """In place of arrays, where they would be."""


_only_place: ContextVar[bool] = ContextVar("only the place of arrays is asked for", default=False)


def only_place(build: Callable[[], Any]) -> Path | None:
    """The folder of the arrays that `build` would open first; nothing is opened or made. None if
    it opens none."""
    token = _only_place.set(True)
    try:
        build()
    except _PlaceError as found:
        return Path(found.args[0])
    finally:
        _only_place.reset(token)
    return None


@dataclass(frozen=True)
class Mapped:
    """Arrays on disk. arrays: {name: read-only memmap}; notes: what the builder noted;
    archives: {name: SHA-256} of the files that they were built from; unchecked: those of them whose
    known checksum was waived; digest: SHA-256 of all."""

    folder: Path
    arrays: dict[str, np.ndarray]
    notes: dict[str, Any]
    archives: dict[str, str]
    unchecked: tuple[str, ...]
    checksums: dict[str, str]
    digest: str

    def verify(self) -> None:
        """Read every byte; ValueError names the first array that has changed."""
        for name, array in self.arrays.items():
            found = array_sha256(array)
            if found != self.checksums[name]:
                raise ValueError(
                    f"{self.folder / name}.npy is damaged: its SHA-256 is {found}, not "
                    f"{self.checksums[name]}; remove {self.folder} and it is built again"
                )


def mapped(
    data_dir: Path, task: str, options: dict[str, Any], build: Callable[[Builder], None]
) -> Mapped:
    """The arrays of `task` with `options` (JSON values that decide the content), opened as maps.

    If they are missing, `build` makes them: in a temporary folder, renamed into place when all is
    on disk, by one process while the others wait. A cache of another format, an incomplete one,
    or one built from archives that have since been replaced, is built again, with a warning.
    Raises ValueError if the folder is not writable, and whatever `build` raises.
    """
    folder = cache_folder(data_dir, task, options)
    if _only_place.get():
        raise _PlaceError(folder)
    try:
        return _open(folder, data_dir)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except UnusableError as error:
        print(f"{folder} {error}; building it again", file=sys.stderr)
    except OSError as error:
        raise ValueError(f"cannot read {folder}: {os_reason(error)}") from error
    lock = folder.parent / f"{folder.name}.lock"
    with locked(lock, f"{task}: another process is making its data"):
        try:
            try:
                return _open(folder, data_dir)  # another process may have built it meanwhile
            except (FileNotFoundError, UnusableError):
                _build(folder, data_dir, task, options, build)
            return _open(folder, data_dir)
        except OSError as error:
            why = f"cannot write data under {folder.parent}: {os_reason(error)}"
            raise ValueError(why) from error


def cache_folder(data_dir: Path, task: str, options: dict[str, Any]) -> Path:
    """Where `mapped` keeps these arrays."""
    keyed = json.dumps({"format": FORMAT, "options": options}, sort_keys=True, allow_nan=False)
    return data_dir / task / hashlib.sha256(keyed.encode()).hexdigest()[:16]


def _build(
    folder: Path,
    data_dir: Path,
    task: str,
    options: dict[str, Any],
    build: Callable[[Builder], None],
) -> None:
    """Fill `folder`; to be called with its lock held."""
    if os.path.lexists(folder) and not folder.is_dir():
        raise ValueError(f"{folder} is in the way: it is no folder; remove it")
    for stale in folder.parent.glob(f".{folder.name}.*.tmp"):  # left by processes that were killed
        shutil.rmtree(stale, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".tmp"))
    try:
        builder = Builder(temporary, data_dir)
        try:
            build(builder)
        except ValueError as error:
            told = builder.give_up(error)
            if told is error:
                raise
            raise told from error
        index: dict[str, Any] = {
            "format": FORMAT,
            "task": task,
            "options": options,
            "arrays": builder.close(),
            "archives": builder.archives,
            "unchecked": builder.unchecked,
            "loose": builder.loose,
            "notes": builder.notes,
        }
        index["sha256"] = _seal(index)
        path = temporary / INDEX
        path.write_text(json.dumps(index, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        sync(path)
        temporary.chmod(0o755)  # mkdtemp's 0700 would shut out the other users of a data folder
        sync(temporary)
        if folder.exists():
            folder.rename(temporary.with_suffix(".old.tmp"))
        temporary.rename(folder)
        sync(folder.parent)
    finally:
        for left in folder.parent.glob(f".{folder.name}.*.tmp"):
            shutil.rmtree(left, ignore_errors=True)


def _open(folder: Path, data_dir: Path) -> Mapped:
    """The arrays in `folder`. Raises UnusableError, or FileNotFoundError where there is none."""
    index = read_index(folder)
    for name, seen in index["loose"].items():
        path = data_dir / "downloads" / name
        if path.is_file() and stamp(path) != seen:
            raise UnusableError(f"was built from another {name}")
    unchecked = tuple(index["unchecked"])
    if unchecked and not waived():
        raise ValueError(
            f"{folder} was built from {', '.join(unchecked)} whose known checksum was waived: "
            "HARNESS_DATA_UNCHECKED=1 goes on with it; or remove folder and archive"
        )
    arrays = {name: _map(folder, name, entry) for name, entry in index["arrays"].items()}
    for name, sha256 in index["archives"].items():
        recorded = recorded_sha256(name, data_dir)
        if recorded is not None and recorded != sha256:
            raise UnusableError(f"was built from another {name}")
    checksums = {name: entry["sha256"] for name, entry in index["arrays"].items()}
    # (without the files' sizes, which hang on how numpy pads its headers)
    content = [(k, a.dtype.str, a.shape, checksums[k]) for k, a in sorted(arrays.items())]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return Mapped(folder, arrays, index["notes"], index["archives"], unchecked, checksums, digest)


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a cache. Raises UnusableError, or FileNotFoundError where there is none."""
    if not folder.is_dir():
        raise FileNotFoundError(folder)
    try:
        index = parse_json(read_bounded(folder / INDEX), folder / INDEX)
        found = index["format"]
        if found != FORMAT:
            raise UnusableError(f"was written by another version (format {found}, not {FORMAT})")
        read = {key: dict(index[key]) for key in ("arrays", "archives", "notes", "options")}
        read["unchecked"] = list(index.get("unchecked", ()))  # type: ignore[assignment]
        read["loose"] = dict(index.get("loose", {}))
    except _BROKEN as error:
        raise UnusableError("has no readable index") from error
    if not read["arrays"]:
        raise UnusableError("has no arrays")
    if index.get("sha256", _seal(index)) != _seal(index):  # older ones have none
        raise UnusableError("has an index that was altered")
    return read


def _seal(index: dict[str, Any]) -> str:
    """SHA-256, hex, of an index without its own."""
    content = {key: value for key, value in index.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _map(folder: Path, name: str, entry: dict[str, Any]) -> np.ndarray:
    path = folder / f"{name}.npy"
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        expected = (list(entry["shape"]), entry["dtype"], entry["bytes"], len(entry["sha256"]))
        found = (list(array.shape), array.dtype.str, path.stat().st_size, 64)
    except _BROKEN as error:
        raise UnusableError(f"lacks a whole {name}.npy") from error
    if found != expected:
        raise UnusableError(f"has a {name}.npy that is not what its index says")
    return array
