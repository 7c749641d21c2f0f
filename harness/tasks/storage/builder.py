"""Building a mapped cache: arrays written directly to their files."""

from __future__ import annotations

import errno
import hashlib
import math
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from harness.tasks.storage.archive_records import (
    DOWNLOADED,
    UNCHECKED,
    read_record,
    record_path,
    recorded_sha256,
)
from harness.tasks.storage.archives import ArchiveError
from harness.tasks.storage.capacity import check_disk
from harness.tasks.storage.download import fetch
from harness.tasks.storage.sources import SOURCES
from harness.tools.inputs import is_plain_name


class Builder:
    """The arrays of one cache under construction.

    notes: JSON values to keep with them, such as counts of what was skipped.
    """

    def __init__(self, folder: Path, data_dir: Path) -> None:
        self._folder, self._data_dir = folder, data_dir
        self._names: list[str] = []
        self._maps: list[np.memmap] = []
        self._growing: list[Growing] = []
        self.notes: dict[str, Any] = {}
        self.archives: dict[str, str] = {}
        self.loose: dict[str, list[int]] = {}  # files put by hand: size and time of last change
        self.unchecked: list[str] = []  # archives whose known checksum was waived

    def archive(self, name: str) -> Path:
        """`download.fetch` of an archive, noting its checksum: when the file is replaced by
        another one, the cache is built again."""
        path = fetch(name, self._data_dir)
        recorded = recorded_sha256(name, self._data_dir)
        if recorded is not None:
            self.archives[name] = recorded
        if UNCHECKED in read_record(name, self._data_dir):
            self.unchecked.append(name)
        return path

    def by_hand(self, path: Path, sha256: str) -> None:
        """Note a file of DATA_DIR/downloads that no source lists: when it changes, the cache is
        built again."""
        self.archives[path.name] = sha256
        self.loose[path.name] = stamp(path)

    def give_up(self, error: ValueError) -> ValueError:
        """The error to raise after `error` ended the build.

        Archives without a known checksum may be wrong, so their recorded checksums are dropped and
        a better copy is accepted. A damaged archive that we downloaded is deleted, so that the next
        fetch gets it again. One that was put there by hand is left alone, and the error says so.
        """
        for name in self.archives:
            source = SOURCES.get(name)
            if name not in self.unchecked and (source is None or source.known is not None):
                continue
            ours = DOWNLOADED in read_record(name, self._data_dir)
            record = record_path(name, self._data_dir)
            record.unlink(missing_ok=True)
            if isinstance(error, ArchiveError) and error.damaged and error.path.name == name:
                advice = "remove it to have it fetched again"
                if ours:
                    error.path.unlink(missing_ok=True)
                    advice = "it was downloaded, and is now discarded, to be fetched again"
                return ValueError(f"{error}; {advice}")
        return error

    def create(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.memmap:
        """A new array of zeros, to be written to; it is the file."""
        if 0 in shape:
            raise ValueError(f"{name} would be empty: shape {shape}")
        path, plain = self._path(name), _plain(name, dtype)
        check_disk(self._folder.parent, math.prod(shape) * plain.itemsize)
        array = np.lib.format.open_memmap(path, mode="w+", dtype=plain, shape=shape)
        _reserve(path)
        self._maps.append(array)
        return array

    def put(self, name: str, array: np.ndarray) -> None:
        """Store an array that is in memory."""
        self.create(name, array.shape, array.dtype)[...] = array

    def grow(self, name: str, dtype: Any) -> Growing:
        """A vector whose length is not known yet; `append` to it."""
        growing = Growing(self._path(name), _plain(name, dtype))
        self._growing.append(growing)
        return growing

    def drop(self, growing: Growing) -> None:
        """Discard a vector from `grow`."""
        growing.abandon()
        growing.path.unlink()
        self._growing.remove(growing)
        self._names.remove(growing.path.stem)

    def rename(self, growing: Growing, name: str) -> None:
        """Store a vector from `grow` under another, unused name."""
        old = growing.path
        self._names.remove(old.stem)
        growing.path = old.rename(self._path(name))

    def close(self) -> dict[str, dict[str, Any]]:
        """Write all to disk; {name: shape, dtype, bytes of the file, SHA-256 of the data}."""
        for array in self._maps:
            array.flush()
        self._maps.clear()
        for growing in self._growing:
            growing.close()
        if not self._names:
            raise ValueError("no array was built")
        return {name: self._entry(name) for name in self._names}

    def _entry(self, name: str) -> dict[str, Any]:
        path = self._folder / f"{name}.npy"
        sync(path)
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        return {
            "shape": list(array.shape),
            "dtype": array.dtype.str,
            "bytes": path.stat().st_size,
            "sha256": array_sha256(array),
        }

    def _path(self, name: str) -> Path:
        if not is_plain_name(name) or name in self._names:
            raise ValueError(f"an array's name is new, of letters, digits, _ . -; got {name!r}")
        self._names.append(name)
        return self._folder / f"{name}.npy"


class Growing:
    """A vector on disk that grows; its header, written last, has room for any length."""

    def __init__(self, path: Path, dtype: np.dtype) -> None:
        self.path, self._dtype, self.length = path, dtype, 0
        self._file = path.open("wb")
        self._header(self._file)
        self._start = self._file.tell()

    def append(self, values: np.ndarray) -> None:
        """Add a vector of the same dtype at the end."""
        if values.ndim != 1 or values.dtype != self._dtype:
            raise ValueError(f"{self.path.name} grows by vectors of {self._dtype}")
        self._file.write(np.ascontiguousarray(values).data)
        self.length += len(values)

    def abandon(self) -> None:
        """Release the file, which is no longer needed."""
        self._file.close()

    def close(self) -> None:
        if self.length == 0:
            self.abandon()
            raise ValueError(f"{self.path.stem} would be empty")
        self._file.seek(0)
        self._header(self._file)
        assert self._file.tell() == self._start
        self._file.close()

    def _header(self, file: BinaryIO) -> None:
        descr = np.lib.format.dtype_to_descr(self._dtype)
        header = {"descr": descr, "fortran_order": False, "shape": (self.length,)}
        np.lib.format.write_array_header_1_0(file, header)


def _reserve(path: Path) -> None:
    """Allocate the blocks of a file of zeros, so that a full disk raises OSError here instead of
    killing the process while it writes to the map."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # not on this file system
                    raise


def array_sha256(array: np.ndarray) -> str:
    """SHA-256, hex, of the bytes of a contiguous array."""
    return hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).hexdigest()


def stamp(path: Path) -> list[int]:
    """Size and time of the last change, which reveal a replaced file without reading it."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def sync(path: Path) -> None:
    """fsync a file or a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _plain(name: str, dtype: Any) -> np.dtype:
    plain = np.dtype(dtype)
    if plain.hasobject or plain.fields:
        raise ValueError(f"{name} must hold plain numbers, not {plain}")
    return plain
