"""Sequences from an .npz file. Nothing is ever unpickled."""

from __future__ import annotations

import functools
import math
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.tasks.specs.own import ArraysSpec
from harness.tasks.storage.capacity import check_memory
from harness.tools.inputs import cut

# What numpy raises for corrupted bytes.
_DAMAGE = (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError)
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True)
class Part:
    """The sequences of one file. x is read on demand: (n, length, channels) numbers, or
    (n, length) tokens, of `shape` and `dtype`; lengths: (n,), None where all are full; split: (n,)
    words."""

    where: str
    shape: tuple[int, ...]
    dtype: np.dtype
    x: Callable[[], np.ndarray]
    y: np.ndarray | None
    lengths: np.ndarray | None
    split: np.ndarray | None


def read_npz(path: Path, where: str, spec: ArraysSpec) -> Part:
    """The arrays of a file, with the shapes in its header. Raises ValueError with one line that
    begins with `where`."""
    given = ("x_columns", "y_columns", "sequence_column", "split_column")
    named = [name for name in given if getattr(spec, name) is not None]
    if named:
        raise ValueError(f"{where}: {named[0]} is for tables; an .npz holds x and y")
    shape, dtype = _header(path, where, "x")
    wanted = ("y",) if spec.predict != "next_step" else ()
    y, lengths, split = (
        _array(path, where, name, required=name in wanted) for name in ("y", "lengths", "split")
    )
    if spec.predict == "next_step":
        y = None
    for name, array in (("y", y), ("lengths", lengths), ("split", split)):
        if array is not None and array.shape[:1] != shape[:1]:
            raise ValueError(
                f"{where}: {name} has shape {array.shape}, and x {shape}: the first axis counts "
                "sequences in both"
            )
    part = Part(where, shape, dtype, functools.partial(_whole, path, where, "x"), y, lengths, split)
    return part if spec.window is None else _windows(part, spec)


def _windows(part: Part, spec: ArraysSpec) -> Part:
    """Every sequence cut into windows, in turn; what is left at its end is dropped."""
    width, steps = spec.window, part.shape[1] if len(part.shape) > 1 else 0
    assert width is not None
    if part.lengths is not None:
        raise ValueError(f"{part.where}: window needs sequences of one length, without `lengths`")
    count = steps // width
    if count == 0:
        raise ValueError(f"{part.where}: sequences of {steps} steps hold no window of {width}")

    def windows(array: np.ndarray) -> np.ndarray:
        pieces = array[:, : count * width]
        return pieces.reshape(len(array) * count, width, *array.shape[2:])

    y = part.y
    if y is not None and spec.per == "step" and y.ndim > 1 and y.shape[1] == steps:
        y = windows(y)
    elif y is not None and spec.per == "sequence":
        y = np.repeat(y, count, axis=0)
    return Part(
        part.where,
        (part.shape[0] * count, width, *part.shape[2:]),
        part.dtype,
        lambda: windows(part.x()),
        y,
        None,
        None if part.split is None else np.repeat(part.split, count),
    )


def _header(path: Path, where: str, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of an array, without reading it."""
    try:
        with zipfile.ZipFile(path) as file:
            members = [one.filename.removesuffix(".npy") for one in file.infolist()]
            if name not in members:
                listed = cut(", ".join(members)) or "nothing"
                raise _Told(f"{where} has no array {name}; it has {listed}")
            member = file.getinfo(f"{name}.npy")
            with file.open(member) as content:
                version = np.lib.format.read_magic(content)
                shape, _, dtype = _HEADERS[version](content)
    except _Told:
        raise
    except _DAMAGE as error:
        raise ValueError(f"{where} is damaged, cut off or no .npz file: {_why(error)}") from None
    if dtype.hasobject:
        raise ValueError(
            f"{where}: {name} holds Python objects, which are never unpickled: sequences of "
            "different lengths are padded to one, with their `lengths` beside them"
        )
    size = math.prod(shape) * dtype.itemsize
    if size > member.file_size:
        raise ValueError(
            f"{where} is damaged: {name} announces {size} bytes and has {member.file_size}"
        )
    check_memory("arrays", size)
    return shape, dtype


def _array(path: Path, where: str, name: str, required: bool) -> np.ndarray | None:
    if not required and name not in _names(path, where):
        return None
    _header(path, where, name)
    return _whole(path, where, name)


def _names(path: Path, where: str) -> list[str]:
    try:
        with zipfile.ZipFile(path) as file:
            return [one.filename.removesuffix(".npy") for one in file.infolist()]
    except _DAMAGE as error:
        raise ValueError(f"{where} is damaged, cut off or no .npz file: {_why(error)}") from None


def _whole(path: Path, where: str, name: str) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return np.asarray(stored[name])
    except _DAMAGE as error:
        raise ValueError(f"{where} is damaged: {name} cannot be read: {_why(error)}") from None


class _Told(ValueError):
    """An error whose message is complete."""


def _why(error: Exception) -> str:
    return cut(str(error)) or type(error).__name__
