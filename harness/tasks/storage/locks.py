"""A lock file in a data folder: one process makes what the others wait for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.tools.inputs import cut
from harness.tools.notes import waiting


@contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Hold the lock file `path`, and create its folder. If this has to wait, it prints `busy`.

    Raises ValueError if the folder is not writable or does not support locks.
    """
    from filelock import FileLock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, mode=0o666)
        with waiting(busy):
            lock.acquire()
    except (OSError, NotImplementedError) as error:  # the latter from file systems without locks
        why = getattr(error, "strerror", None) or cut(str(error))
        raise ValueError(f"cannot write data under {path.parent}: {why}") from error
    try:
        yield
    finally:
        lock.release()
