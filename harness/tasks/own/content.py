"""The content of files, whatever their names and places: the identity of own data."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path

from harness.tools.inputs import cut, os_reason, user_path

_SETTLED = 2 * 10**9  # ns since the last change, after which another one would change the stamp
_folder: ContextVar[Path | None] = ContextVar("folder of relative paths", default=None)
_known: dict[tuple[str, tuple[int, ...]], str] = {}  # SHA-256 of files by path and stamp


@contextlib.contextmanager
def relative_to(folder: Path) -> Iterator[None]:
    """Inside this context, relative data paths in new specs start in `folder` instead of the
    working directory."""
    token = _folder.set(folder.absolute())
    try:
        yield
    finally:
        _folder.reset(token)


def located(path: str, what: str = "the data") -> Path:
    """The absolute path that a user means. Raises ValueError for an invalid path."""
    return user_path(path, what, _folder.get())


def files_of(path: Path, suffixes: Sequence[str] = (), deep: bool = True) -> list[Path]:
    """The files at `path`: itself, or those in the folder, in the order of their paths below it.
    Hidden files are left out, and links to folders are not followed.

    suffixes: only files with these lower-case endings; none: all files. Raises ValueError if
    there is no file.
    """
    try:
        if path.is_file():
            return [path]
        if not path.is_dir():
            state = "is neither a file nor a folder" if path.exists() else "does not exist"
            raise ValueError(f"{cut(str(path))} {state}")
        found = list(_below(path, deep))
    except OSError as error:
        raise ValueError(f"cannot read {os_reason(error)}") from None
    kept = [file for file in found if not suffixes or file.suffix.lower() in suffixes]
    if not kept:
        what = f"file of {', '.join(suffixes)}" if suffixes else "file"
        raise ValueError(f"{cut(str(path))} holds no {what}")
    return sorted(kept, key=lambda file: file.relative_to(path).as_posix())


def _below(folder: Path, deep: bool) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise error

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if deep and not name.startswith(".")]
        for name in names:
            file = Path(parent, name)
            if not name.startswith(".") and file.is_file():
                yield file


def numbered(path: Path, files: Sequence[Path], number: int) -> str:
    """How a message names a file: the `number`-th, from 0, of those at `path`."""
    if files == [path]:
        return cut(str(path))
    return f"{cut(str(files[number]))} (file {number + 1} of {len(files)})"


def content_sha256(path: Path, files: Sequence[Path]) -> str:
    """SHA-256, hex: of one file, or of several files' names below `path` and their SHA-256.

    Raises ValueError if a file cannot be read.
    """
    if files == [path]:
        return _file_sha256(path)
    state = hashlib.sha256()
    for file in files:
        state.update(f"{file.relative_to(path).as_posix()}\0{_file_sha256(file)}\n".encode())
    return state.hexdigest()


def _file_sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            stamp = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
            key = (str(path), stamp)
            if key in _known:
                return _known[key]
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ValueError(f"cannot read {os_reason(error)}") from None
    # A file that was written just now may change once more within one tick of its clock.
    if time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) > _SETTLED:
        _known[key] = sha256
    return sha256
