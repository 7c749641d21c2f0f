"""Generated arrays on disk: written whole or not at all, checked when read, made again if bad."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from harness.tasks.base import digest

_DIGEST = "sha256"


class DamagedError(Exception):
    """A cache file that cannot be trusted."""


def cached(path: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays at `path`, made by `make` and stored there where they are missing or damaged.

    Several processes may call this at once: each sees a whole file or none, and what they write
    is the same. Raises ValueError where the directory cannot be written.
    """
    try:
        return read(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except DamagedError as error:
        warnings.warn(f"{path} is damaged ({error}); generating it again", stacklevel=2)
    arrays = make()
    write(path, arrays)
    return arrays


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays stored at `path`. Raises DamagedError, or FileNotFoundError
    (NotADirectoryError) where there is none."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (FileNotFoundError, NotADirectoryError):
        raise
    except Exception as error:  # bits gone wrong make the readers raise almost anything
        raise DamagedError(str(error).splitlines()[0] if str(error) else "unreadable") from error
    expected = arrays.pop(_DIGEST, np.array(""))
    if str(expected) != digest(arrays):
        raise DamagedError("its checksum does not match")
    return arrays


def write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Store `arrays` at `path` atomically: temporary name, fsync, rename."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    except OSError as error:
        raise ValueError(f"cannot write data under {path.parent}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            # (numpy's stub takes the keyword arguments for its own flag)
            np.savez(file, **{**arrays, _DIGEST: np.array(digest(arrays))})  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would shut out the other users of a data folder
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise ValueError(f"cannot write {path}: {error.strerror}") from error
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
