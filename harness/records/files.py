"""Atomic files: temporary name, fsync, rename, fsync of the folder."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from pathlib import Path
from typing import Any

from harness.tools.inputs import is_plain_name, parse_json, read_bounded, shown
from harness.tools.processes import Process, this_process

TEMPORARY_PREFIX = ".tmp-"  # no record's name begins like this
STALE_SECONDS = 3600.0


def temporary_beside(path: Path) -> Path:
    """A new name in the file's folder, to write to before a rename or a link.

    It starts with a dot and has no record's ending, so what a killed process leaves is never
    mistaken for a record; it is unique among processes of all machines, and says whose it is.
    """
    me = this_process()
    name = f"{TEMPORARY_PREFIX}{me.machine}-{me.pid}-{me.started}-{secrets.token_hex(4)}"
    return path.parent / name


def write_new(path: Path, data: bytes, durable: bool = True) -> None:
    """Write a file that does not exist; with `durable`, wait for the disk. Raises OSError."""
    with open(path, "xb") as handle:
        handle.write(data)
        if durable:
            handle.flush()
            os.fsync(handle.fileno())


def write_atomic(path: Path, data: bytes, durable: bool = True) -> None:
    """Write `data` to `path` so that readers see the old file or the new one, never a part.

    Creates the parent folders. Raises OSError if the disk fails; the old file then stays. Without
    `durable` there is no wait for the disk: a power cut may lose the file or truncate it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        write_new(temporary, data, durable)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.errno and error.filename is None:  # of a write
            error.filename = str(path)
        raise
    if durable:
        sync(path.parent)


def sweep(folder: Path) -> None:
    """Remove temporary files left by killed processes from a folder with several writers.

    They are those of this machine's dead processes and, since a write takes seconds, all that are
    an hour old.
    """
    for leftover in folder.glob(f"**/{TEMPORARY_PREFIX}*"):
        with contextlib.suppress(OSError):  # another process was faster
            old = leftover.stat().st_mtime < time.time() - STALE_SECONDS
            if old or _is_of_the_dead(leftover.name):
                leftover.unlink()


def _is_of_the_dead(name: str) -> bool:
    match name.removeprefix(TEMPORARY_PREFIX).split("-"):
        case machine, pid, started, _ if pid.isdecimal():
            return Process(machine, "", int(pid), started).is_dead()
    return False


def make_shared(path: Path) -> None:
    """Create an empty file if there is none, with the permissions that the umask allows.

    SQLite creates files as 0644 whatever the umask, but takes an empty file for a new database.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666))


def sync(path: Path) -> None:
    """Make a file's content durable, or the names in a folder: otherwise a power cut may undo a
    rename."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, obj: Any) -> None:
    """Write `obj` as JSON with sorted keys, atomically.

    Raises ValueError on NaN or infinity (JSON has neither), TypeError on what JSON cannot hold.
    """
    write_atomic(path, json_bytes(obj))


def json_bytes(obj: Any) -> bytes:
    """What `write_json` writes."""
    text = json.dumps(obj, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False)
    return (text + "\n").encode()


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises FileNotFoundError, or ValueError naming a file that is not JSON."""
    return parse_json(read_bounded(path), path)


def unreadable_name(path: Path) -> Path:
    """An unused name beside `path` for what cannot be read: `NAME.unreadable-YYYYMMDDTHHMMSS`."""
    return unused(path.with_name(f"{path.name}.unreadable-{time.strftime('%Y%m%dT%H%M%S')}"))


def unused(path: Path) -> Path:
    """The path, with a number appended if it exists."""
    found, number = path, 2
    while os.path.lexists(found):
        found, number = path.with_name(f"{path.name}.{number}"), number + 1
    return found


def plain_name(name: str, what: str) -> str:
    """`name`, if it is plain; otherwise raises ValueError, with `what` as its description."""
    if not is_plain_name(name):
        raise ValueError(f"{what} {shown(name)}: letters, digits, '_', '.' and '-' only")
    return name
