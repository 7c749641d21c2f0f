"""Generated arrays on disk: written whole or not at all, checked when read, rebuilt if damaged."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from harness.tasks.base import digest
from harness.tasks.storage.capacity import check_disk
from harness.tasks.storage.locks import locked
from harness.tools.inputs import cut, os_reason

_DIGEST = "sha256"


class DamagedError(Exception):
    """A cache file that cannot be trusted."""


def cached(
    path: Path, make: Callable[[], dict[str, np.ndarray]], size: int = 0
) -> dict[str, np.ndarray]:
    """The arrays at `path`. If they are missing or damaged, `make` makes them and they are stored.

    One process makes them while others wait; each sees a whole file or none. size: the minimum of
    bytes that they take. Raises ValueError, before anything is made, if the folder is not writable
    or has too little room.
    """
    try:
        return read(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except DamagedError as error:
        warnings.warn(f"{path} is damaged ({error}); generating it again", stacklevel=2)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {os_reason(error)}") from error
    folder = path.parent
    busy = f"{folder.parent.name}: another process is making its data"
    with locked(folder.with_name(f"{folder.name}.lock"), busy):
        try:
            return read(path)  # another process may have made it meanwhile
        except (DamagedError, OSError):
            pass
        with _replacing(path) as file:
            check_disk(folder, size)
            arrays = make()
            sealed = arrays | {_DIGEST: np.array(digest(arrays))}
            np.savez(file, **sealed)  # type: ignore[arg-type]  # (taken for numpy's own flag)
        return arrays


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays stored at `path`. Raises DamagedError, or OSError: FileNotFoundError
    (NotADirectoryError) where there is none, others where it cannot be opened."""
    with path.open("rb") as file:
        try:
            with np.load(file, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
        except MemoryError:
            raise
        except Exception as error:  # corrupted bytes make the readers raise almost anything
            raise DamagedError(cut(str(error)) or "unreadable") from error
    expected = arrays.pop(_DIGEST, np.array(""))
    if str(expected) != digest(arrays):
        raise DamagedError("its checksum does not match")
    return arrays


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that is at `path`, on disk, when the block ends; and gone where that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for stale in path.parent.glob(f"{path.name}*.tmp"):  # left by processes that were killed
            stale.unlink(missing_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    except OSError as error:
        raise ValueError(f"cannot write data under {path.parent}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would shut out the other users of a data folder
        os.replace(temporary, path)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}") from error
    finally:
        Path(temporary).unlink(missing_ok=True)
