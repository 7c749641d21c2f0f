"""The Long Range Arena's tables, line by line: from its archive, or single files put by hand.

The archive has 8 GB, nearly all of it images. If all tables are in DATA_DIR/downloads, they are
read from there and the archive is not needed.
"""

from __future__ import annotations

import hashlib
import sys
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from harness.tasks.storage.archives import rooted
from harness.tasks.storage.builder import Builder
from harness.tasks.storage.download import UnavailableError, downloads, present
from harness.tools.inputs import cut

ARCHIVE = "lra_release.gz"

Part = TypeVar("Part")

_MAX_TABLE = 30 * 10**9  # bytes; the whole release has 18.6 GB unpacked
_MAX_LINE = 1 << 26


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


class Table:
    """One table. name: its file's; folder: where that lies; lines: (number from 1, line without its
    end), to be read once, before the next table is asked for."""

    def __init__(
        self, name: str, file: BinaryIO, state: _Hash | None = None, folder: str = ""
    ) -> None:
        self.name, self.folder, self._file, self._state = name, folder, file, state

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Without empty lines, and without a byte order mark before the first. Raises ValueError
        for a line that is too long to be one."""
        number = 0
        while line := self._file.readline(_MAX_LINE):
            number += 1
            if len(line) == _MAX_LINE:
                raise self.error(number, f"more than {_MAX_LINE} bytes in one line")
            if self._state is not None:
                self._state.update(line)
            if number == 1:
                line = line.removeprefix(BOM_UTF8)
            if content := line.rstrip(b"\r\n"):
                yield number, content

    def error(self, number: int, what: str) -> ValueError:
        return ValueError(f"{self.folder}{self.name}, line {number}: {what}")


def tables(
    builder: Builder,
    data_dir: Path,
    names: tuple[str, ...],
    read: Callable[[Table], Part],
    missing: Callable[[set[str]], str | None] = lambda seen: None,
) -> tuple[str, dict[str, Part]]:
    """The folder of the tables `names`, and {name: what `read` made of it}; the checksum of what
    they were read from goes to `builder`.

    In the archive they lie in whatever folder, since mirrors lay folders out differently, but all
    in one. Where several hold tables of these names, the first to have all is taken, with a word;
    `read` is told of each by its folder. missing(file names seen instead) may explain why tables
    are not there, in one line.
    Raises ValueError where one is missing, and what `read`, `fetch` and the reader of archives do.
    """
    folder = downloads(data_dir)
    here = [name for name in names if present(folder / name)]
    if len(here) == len(names):
        return "", _by_hand(builder, folder, names, read)
    beside = {path.name for path in folder.glob("*.tsv")}
    absent = sorted(set(names) - beside)
    if here:
        raise ValueError(f"{folder} has {', '.join(here)} but not {', '.join(absent)}")
    if not (folder / ARCHIVE).is_file() and (why := missing(beside)):
        raise ValueError(f"{folder}: {why}")
    try:
        path = builder.archive(ARCHIVE)
    except UnavailableError as error:
        raise UnavailableError(f"{error}; or put {', '.join(names)} there by hand") from error
    return _from_archive(builder, path, names, read, missing)


def _by_hand(
    builder: Builder, folder: Path, names: tuple[str, ...], read: Callable[[Table], Part]
) -> dict[str, Part]:
    parts = {}
    for name in names:
        state = hashlib.sha256()
        try:
            with (folder / name).open("rb") as file:
                parts[name] = read(Table(name, file, state))
                while block := file.read(1 << 20):  # whatever the reader has left
                    state.update(block)
        except OSError as error:
            raise ValueError(f"{folder / name} cannot be read: {error.strerror}") from error
        builder.by_hand(folder / name, state.hexdigest())
    return parts


def _from_archive(
    builder: Builder,
    path: Path,
    names: tuple[str, ...],
    read: Callable[[Table], Part],
    missing: Callable[[set[str]], str | None],
) -> tuple[str, dict[str, Part]]:
    seen: set[str] = set()
    found: dict[str, dict[str, Part]] = {}
    for folder, match, file in rooted(path, r"[^/]*\.tsv", _MAX_TABLE, _MAX_TABLE):
        name = match["key"]
        seen.add(name)
        if name not in names:
            continue
        parts = found.setdefault(folder, {})
        parts[name] = read(Table(name, file, folder=folder))
        if len(parts) == len(names):  # hours of images may follow
            if left := [other or "the top" for other in found if other != folder]:
                builder.notes |= {"root": folder or "the top", "other_roots": left}
                print(
                    f"{path} holds such tables in {cut(' and '.join([folder, *left]))}: those of "
                    "the first, which has all, are taken",
                    file=sys.stderr,
                )
            return folder, parts
    fullest = max(found.values(), key=len, default={})
    absent = sorted(set(names) - set(fullest))
    where = f" in one folder, but tables in {cut(' and '.join(found))}" if len(found) > 1 else ""
    raise ValueError(f"{path}: {missing(seen) or 'there is no ' + ' and no '.join(absent)}{where}")
