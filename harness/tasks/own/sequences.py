"""Files of `arrays`: sequences from one or more files, checked, and what a plan needs of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.tasks.own.content import content_sha256, files_of, numbered
from harness.tasks.own.npz import Part, read_npz
from harness.tasks.own.splits import (
    check_classes,
    named_splits,
    split_codes,
    split_rows,
    with_sizes,
)
from harness.tasks.own.tables import read_table
from harness.tasks.specs.own import ArraysSpec, Content
from harness.tools.inputs import cut, shown

READERS = {".npz": read_npz, ".parquet": read_table, ".csv": read_table}
_AT_ONCE = 1 << 22  # numbers of x checked at a time
_MOST_CLASSES = 1_000_000


@dataclass(frozen=True)
class Sequences:
    """All sequences of the files, with shapes that agree.

    length: steps; channels: None where x holds tokens, and then `vocabulary` counts them; y: codes
    of classes, or numbers, (n,), (n, targets), (n, length) or (n, length, targets); classes: what
    the codes stand for; lengths: (n,) steps that count; split: (n,) indices into SPLITS, or None.
    """

    parts: list[Part]
    sha256: str
    length: int
    channels: int | None
    vocabulary: int | None
    y: np.ndarray | None
    classes: np.ndarray | None
    lengths: np.ndarray
    split: np.ndarray | None

    def content(self, spec: ArraysSpec, path: Path) -> Content:
        """What a plan needs to know."""
        if self.classes is not None:
            outputs = len(self.classes)
        elif self.y is not None:
            outputs = self.y.shape[-1]
        else:
            outputs = self.vocabulary or self.channels or 0
        return Content(
            path=str(path),
            sha256=self.sha256,
            examples=len(self.lengths),
            length=self.length - (spec.predict == "next_step"),
            inputs=self.channels,
            vocabulary=self.vocabulary,
            outputs=outputs,
        )

    def pieces(self) -> Iterator[tuple[slice, np.ndarray, str]]:
        """(rows, x, file) in turn, small enough for a check to copy."""
        begin = 0
        for part in self.parts:
            x = part.x()
            if x.shape != part.shape:
                raise ValueError(f"{part.where}: x changed while it was read")
            width = max(1, _AT_ONCE // max(1, x[0].size))
            for start in range(0, len(x), width):
                piece = x[start : start + width]
                yield slice(begin + start, begin + start + len(piece)), piece, part.where
            begin += len(x)


def look(spec: ArraysSpec, path: Path) -> Content:
    """What the files at `path` hold. Writes nothing."""
    found = read(spec, path)
    rows = rows_of(spec, len(found.lengths), found.y, found.split, found.classes)
    return with_sizes(found.content(spec, path), rows)


def rows_of(
    spec: ArraysSpec,
    count: int,
    y: np.ndarray | None,
    given: np.ndarray | None,
    classes: Sequence[Any] | np.ndarray | None,
) -> dict[str, np.ndarray]:
    """{split: (n,) int64 sequences}; ValueError for one that is empty, or has an unknown class."""
    of_class = spec.predict == "class"
    mixed = y if of_class and spec.per == "sequence" else None
    rows = split_rows(spec, count, mixed, given, listed=spec.order == "listed")
    if of_class:
        assert y is not None
        assert classes is not None
        check_classes(cut(spec.path), y, rows, list(classes))
    return rows


def read(spec: ArraysSpec, path: Path) -> Sequences:
    """The sequences at `path`. Raises ValueError with the file and what is wrong, in one line."""
    files = files_of(path, tuple(READERS), deep=False)
    sha256 = content_sha256(path, files)
    parts = [_part(spec, path, files, number) for number in range(len(files))]
    length, channels = _agreed(parts)
    lengths = np.concatenate([_lengths(part) for part in parts])
    ragged = bool((lengths < length).any())
    if ragged and (spec.per == "step" or spec.predict == "next_step"):
        raise ValueError(
            f"{cut(str(path))}: sequences of different lengths have no target at every step; "
            "window cuts those of a table to one length"
        )
    if spec.predict == "next_step" and length < 2:
        raise ValueError(f"{cut(str(path))}: sequences of {length} step have no next one")
    y, classes = _targets(spec, path, parts, length)
    vocabulary = None if channels is not None else _vocabulary(parts)
    split = _split(path, files, parts)
    return Sequences(parts, sha256, length, channels, vocabulary, y, classes, lengths, split)


def _part(spec: ArraysSpec, path: Path, files: list[Path], number: int) -> Part:
    file, where = files[number], numbered(path, files, number)
    reader = READERS.get(file.suffix.lower())
    if reader is None:
        raise ValueError(f"{where} is none of {', '.join(READERS)}")
    part = reader(file, where, spec)
    shape, dtype = part.shape, part.dtype
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise ValueError(
            f"{where}: x has dtype {dtype}, not integers or real numbers of at most 64 bits"
        )
    if 0 in shape:
        raise ValueError(f"{where}: x is empty, of shape {shape}")
    tokens = len(shape) == 2 and dtype.kind in "iu"
    if len(shape) != 3 and not tokens:
        raise ValueError(
            f"{where}: x has shape {shape} of {dtype}, not (n, length, channels), nor (n, length) "
            "of integers for tokens; one channel is x[:, :, None]"
        )
    return part


def _agreed(parts: list[Part]) -> tuple[int, int | None]:
    """Steps and channels, which must be the same in all files (or padded to the same)."""
    first = parts[0]
    for part in parts[1:]:
        if part.shape[2:] != first.shape[2:]:
            raise ValueError(
                f"{part.where}: x has shape {part.shape}, and in {first.where} {first.shape}"
            )
        if part.shape[1] != first.shape[1] and (part.lengths is None or first.lengths is None):
            raise ValueError(
                f"{part.where} has sequences of {part.shape[1]} steps, {first.where} of "
                f"{first.shape[1]}: sequences of different lengths need `lengths`"
            )
    channels = first.shape[2] if len(first.shape) == 3 else None
    return max(part.shape[1] for part in parts), channels


def _lengths(part: Part) -> np.ndarray:
    count, steps = part.shape[:2]
    if part.lengths is None:
        return np.full(count, steps, dtype=np.int64)
    lengths = part.lengths
    if lengths.dtype.kind not in "iu" or lengths.shape != (count,):
        raise ValueError(
            f"{part.where}: lengths has shape {lengths.shape} of {lengths.dtype}, not "
            f"({count},) of integers"
        )
    if lengths.min() < 1 or lengths.max() > steps:
        raise ValueError(
            f"{part.where}: lengths run from {lengths.min()} to {lengths.max()}, outside 1..{steps}"
        )
    return lengths.astype(np.int64)


def _vocabulary(parts: list[Part]) -> int:
    """The number of tokens: the largest plus one, for 0."""
    most = 0
    for part in parts:
        x = part.x()
        if x.min() < 0:
            raise ValueError(f"{part.where}: x holds token {x.min()}; tokens are 0, 1, 2, ...")
        most = max(most, int(x.max()))
    if most == 0:
        raise ValueError(f"{parts[0].where}: x holds one token only")
    return most + 1


def _targets(
    spec: ArraysSpec, path: Path, parts: list[Part], length: int
) -> tuple[np.ndarray | None, np.ndarray | None]:
    if spec.predict == "next_step":
        return None, None
    for part in parts:
        _check_target(spec, part)
    found = [part.y for part in parts if part.y is not None]
    if spec.predict == "value":
        width = 2 if spec.per == "sequence" else 3
        numbers = [y[..., None] if y.ndim < width else y for y in found]
        if len({y.shape[2 if spec.per == "step" else 1 :] for y in numbers}) > 1:
            raise ValueError(f"{cut(str(path))}: the files hold different numbers of targets")
        return np.concatenate(numbers).astype(np.float64), None
    if len({y.dtype.kind == "U" for y in found}) > 1:
        raise ValueError(f"{cut(str(path))}: y holds text in some files and integers in others")
    classes, codes = np.unique(np.concatenate(found), return_inverse=True)
    if len(classes) < 2:
        only = shown(classes[0].item(), 60)
        raise ValueError(f"{cut(str(path))}: y holds one class only, {only}")
    if len(classes) > _MOST_CLASSES:
        raise ValueError(f"{cut(str(path))}: y holds {len(classes)} classes: no classification")
    return codes.reshape(-1, *found[0].shape[1:]).astype(np.int64), classes


def _check_target(spec: ArraysSpec, part: Part) -> None:
    y, (count, steps) = part.y, part.shape[:2]
    assert y is not None
    of_class = spec.predict == "class"
    kinds = "biuU" if of_class else "biuf"
    if y.dtype.kind not in kinds or (y.dtype.kind != "U" and y.dtype.itemsize > 8):
        wanted = "integers or text, for a class" if of_class else "real numbers, for a value"
        raise ValueError(f"{part.where}: y has dtype {y.dtype}, not {wanted}")
    base = (count,) if spec.per == "sequence" else (count, steps)
    fits = y.shape == base or (not of_class and y.shape[:-1] == base and y.shape[-1] > 0)
    if not fits:
        one = ", ".join(map(str, base)) + ("," if len(base) == 1 else "")
        several = "" if of_class else f" or ({', '.join(map(str, base))}, targets)"
        raise ValueError(
            f'{part.where}: y has shape {y.shape}; to predict a {spec.predict} per="{spec.per}" '
            f"it is ({one}){several}"
        )
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        row = int(np.argwhere(~np.isfinite(y))[0][0])
        raise ValueError(f"{part.where}: y of sequence {row + 1} is NaN or infinite")


def _split(path: Path, files: list[Path], parts: list[Part]) -> np.ndarray | None:
    names = named_splits(path, files)
    given = [part for part in parts if part.split is not None]
    if names is None and not given:
        return None
    if names is not None and given:
        raise ValueError(f"{given[0].where}: its name is that of a split, and it holds `split`")
    if names is not None:
        counts = [part.shape[0] for part in parts]
        return np.repeat(np.array(names, dtype=np.int8), counts)
    missing = next((part for part in parts if part.split is None), None)
    if missing is not None:
        raise ValueError(f"{missing.where} has no `split`, and {given[0].where} has")
    return np.concatenate([split_codes(part.split, part.where) for part in given])
