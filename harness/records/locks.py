"""Locks between processes: one trial, one runner; one mirror, one writer.

Anyone who may write to a store may hold its locks: a lock file has the permissions that the umask
allows and the group of its folder. A file of another user that is not writable can still be locked.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from harness.tools.inputs import cut
from harness.tools.notes import waiting


class Busy(RuntimeError):
    """Another process holds the lock."""


def store_lock(
    root: Path, name: str, what: str, *, wait: bool = False
) -> AbstractContextManager[None]:
    """Hold a lock of the store at `root`; lock files lie outside its records. See `exclusive`."""
    return exclusive(root / ".locks" / f"{name}.lock", what, wait=wait)


@contextlib.contextmanager
def exclusive(path: Path, what: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock file `path`; without `wait`, raise Busy if another process holds it.

    The kernel releases the lock when its holder dies, however it dies. The file stays: removing it
    would let two processes hold two different files of the same name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor, writable = os.open(path, os.O_RDWR | os.O_CREAT, 0o666), True
    except PermissionError:
        descriptor, writable = os.open(path, os.O_RDONLY), False
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = cut(os.read(descriptor, 200).decode(errors="replace")) or "another process"
            if not wait:
                raise Busy(f"{what} is being run by {holder}") from None
            with waiting(f"{what} is being run by {holder}"):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        if writable:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {os.uname().nodename}\n".encode())
        yield
    finally:
        # Explicitly: closing alone would leave the lock with any child process forked meanwhile.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)
