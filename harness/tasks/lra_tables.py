"""The Long Range Arena's tables, line by line: from its archive, or single files put by hand.

The archive holds 8 GB, nearly all of it images, so whoever has the tables alone need not get it:
they are taken from DATA_DIR/downloads where all of them are there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from harness.tasks.archives import opened
from harness.tasks.builder import Builder
from harness.tasks.download import UnavailableError, downloads

ARCHIVE = "lra_release.gz"

_MAX_TABLE = 30 * 10**9  # bytes; the whole release has 18.6 GB unpacked
_MAX_LINE = 1 << 26


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


class Table:
    """One table. name: its file's; lines: (number from 1, line without its end), to be read once,
    before the next table is asked for."""

    def __init__(self, name: str, file: BinaryIO, state: _Hash | None = None) -> None:
        self.name, self._file, self._state = name, file, state

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Raises ValueError for a line that is too long to be one."""
        number = 0
        while line := self._file.readline(_MAX_LINE):
            number += 1
            if len(line) == _MAX_LINE:
                raise self.error(number, f"more than {_MAX_LINE} bytes in one line")
            if self._state is not None:
                self._state.update(line)
            yield number, line.rstrip(b"\r\n")

    def error(self, number: int, what: str) -> ValueError:
        return ValueError(f"{self.name}, line {number}: {what}")


def tables(
    builder: Builder,
    data_dir: Path,
    names: tuple[str, ...],
    missing: Callable[[set[str]], str | None] = lambda seen: None,
) -> Iterator[Table]:
    """The tables `names`, each once, in whatever order they come; the checksum of what they were
    read from goes to `builder`.

    In the archive a table is known by its file name alone, since mirrors lay the folders out
    differently. missing(file names seen instead) may explain why tables are not there, in one line.
    Raises ValueError where one is missing, and what `fetch` and the reader of archives raise.
    """
    folder = downloads(data_dir)
    present = [name for name in names if (folder / name).is_file()]
    if len(present) == len(names):
        yield from _by_hand(builder, folder, names)
        return
    beside = {path.name for path in folder.glob("*.tsv")}
    absent = sorted(set(names) - beside)
    if present:
        raise ValueError(f"{folder} has {', '.join(present)} but not {', '.join(absent)}")
    if not (folder / ARCHIVE).is_file() and (why := missing(beside)):
        raise ValueError(f"{folder}: {why}")
    try:
        path = builder.archive(ARCHIVE)
    except UnavailableError as error:
        raise UnavailableError(f"{error}; or put {', '.join(names)} there by hand") from error
    yield from _from_archive(path, names, missing)


def _by_hand(builder: Builder, folder: Path, names: tuple[str, ...]) -> Iterator[Table]:
    for name in names:
        state = hashlib.sha256()
        with (folder / name).open("rb") as file:
            yield Table(name, file, state)
            while block := file.read(1 << 20):  # whatever the reader left
                state.update(block)
        builder.by_hand(folder / name, state.hexdigest())


def _from_archive(
    path: Path, names: tuple[str, ...], missing: Callable[[set[str]], str | None]
) -> Iterator[Table]:
    seen: set[str] = set()
    found: set[str] = set()

    def wanted(member: str) -> bool:
        name = member.rsplit("/", 1)[-1]
        if name.endswith(".tsv"):
            seen.add(name)
        return name in names and name not in found

    for member, file in opened(path, wanted, _MAX_TABLE, _MAX_TABLE):
        name = member.rsplit("/", 1)[-1]
        found.add(name)
        yield Table(name, file)
        if len(found) == len(names):  # hours of images may follow
            return
    absent = sorted(set(names) - found)
    raise ValueError(f"{path}: {missing(seen) or 'there is no ' + ' and no '.join(absent)}")
