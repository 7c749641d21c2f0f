"""A folder as storage, on a local or a shared disk. It needs hard links, and no locks.

`link(2)` fails if the name exists, on network file systems too, so `create` is a link to a file
that is already whole. A swapped object's versions are files of their own, `KEY.versions/1`, `2`,
...; the highest is the object, and a swap is the creation of the next.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.records.files import (
    TEMPORARY_PREFIX,
    sweep,
    sync,
    temporary_beside,
    write_atomic,
    write_new,
)
from harness.tools.inputs import read_bounded

from .interface import Entry, Storage, Stored

_VERSIONS = ".versions"
_KEPT = 2  # versions that stay: a slow reader may still open the one before
_MISSING = (FileNotFoundError, NotADirectoryError)
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}


class Folder(Storage):
    """The files below a folder, which need not exist before the first is written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.address = str(root)

    def create(self, key: str, data: bytes) -> str | None:
        path = self.root / key
        return _first(data) if _link(path, data) else None

    def swap(self, key: str, data: bytes, version: str) -> str | None:
        number = int(version.partition(":")[0])
        versions = self._versions(key)
        if number:
            is_newest = _newest(versions) == number
        else:
            stored = self.read(key)
            is_newest = stored is not None and stored.version == version
        if not is_newest:
            return None
        if not _link(versions / str(number + 1), data, durable=False):
            return None
        # Since we looked, many swaps may have removed this number: the link has filled a gap.
        if _newest(versions) != number + 1:
            (versions / str(number + 1)).unlink(missing_ok=True)
            return None
        for old in _numbers(versions):
            if old <= number + 1 - _KEPT:
                (versions / str(old)).unlink(missing_ok=True)
        return str(number + 1)

    def read(self, key: str, at_most: int | None = None) -> Stored | None:
        while True:
            number = _newest(self._versions(key))
            path = self._versions(key) / str(number) if number else self.root / key
            try:
                data = path.read_bytes() if at_most is None else read_bounded(path, at_most)
            except _MISSING:
                if not number:
                    return None
                continue  # it was swapped twice since we looked
            return Stored(data, str(number) if number else _first(data))

    def write(self, key: str, data: bytes, durable: bool = True) -> None:
        write_atomic(self.root / key, data, durable)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        for folder, names, files in os.walk(self.root / prefix):
            names[:] = [name for name in names if not _is_hidden(name)]
            for name in files:
                path = Path(folder, name)
                if _is_hidden(name):
                    continue
                with contextlib.suppress(*_MISSING):
                    status = path.stat()
                    key = path.relative_to(self.root).as_posix()
                    yield Entry(key, status.st_size, status.st_mtime)

    def children(self, prefix: str = "") -> Sequence[str]:
        try:
            names = os.listdir(self.root / prefix)
        except _MISSING:
            return []
        return sorted(name for name in names if not _is_hidden(name))

    def rename(self, key: str, new: str) -> None:
        os.rename(self.root / key, self.root / new)  # whatever there is: a folder, a broken link

    def delete(self, key: str) -> None:
        path = self.root / key
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        shutil.rmtree(self._versions(key), ignore_errors=True)

    def delete_all(self, prefix: str) -> None:
        shutil.rmtree(self.root / prefix, ignore_errors=True)

    def drop_empty(self, prefix: str) -> None:
        with contextlib.suppress(OSError):  # not empty, or missing
            (self.root / prefix).rmdir()

    def sweep(self, prefix: str) -> None:
        sweep(self.root / prefix)

    def modified(self, key: str) -> float | None:
        try:
            return (self.root / key).stat().st_mtime
        except _MISSING:
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                return None
            raise

    def place(self, key: str = "") -> str:
        return str(self.root / key)

    def path(self, key: str = "") -> Path:
        return self.root / key

    def _versions(self, key: str) -> Path:
        return self.root / f"{key}{_VERSIONS}"


def _first(data: bytes) -> str:
    """The version of an object that was never swapped."""
    return f"0:{hashlib.sha256(data).hexdigest()[:32]}"


def _is_hidden(name: str) -> bool:
    """Whether this is a file half written, or the versions of the object beside it."""
    return name.startswith(TEMPORARY_PREFIX) or name.endswith(_VERSIONS)


def _numbers(versions: Path) -> list[int]:
    try:
        return [int(name) for name in os.listdir(versions) if name.isdecimal()]
    except _MISSING:
        return []


def _newest(versions: Path) -> int:
    return max(_numbers(versions), default=0)


def _link(path: Path, data: bytes, durable: bool = True) -> bool:
    """Write a file that does not exist; False if it does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        write_new(temporary, data, durable)
        try:
            os.link(temporary, path)
        except FileExistsError:
            # A network file system may have lost the answer to a link that it has made.
            return temporary.stat().st_nlink > 1
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            reason = f"this file system makes no hard links ({error.strerror}); a store needs them"
            raise OSError(error.errno, reason, str(path)) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    if durable:
        sync(path.parent)
    return True


__all__ = ["Folder"]
