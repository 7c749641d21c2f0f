"""Whether machines see the same store: they leave marks for each other in a corner of it."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from harness.records.storage import storage_at
from harness.tools.inputs import is_address, os_reason

SEE = 5.0  # seconds until a mark must be seen on another machine; network file systems cache
HOST = "host"  # the mark of whoever made the place


@contextlib.contextmanager
def meeting_place(store: str) -> Iterator[str]:
    """The address of a new corner of the store with a mark of this process; it does not stay."""
    name = f".nodes-{secrets.token_hex(8)}"
    missing = [] if is_address(store) else _missing(Path(store))
    place = f"{store}/{name}"
    try:
        storage_at(place).create(HOST, b"")
        yield place
    finally:
        storage_at(store).delete_all(f"{name}/")
        for path in missing:
            with contextlib.suppress(OSError):  # somebody else uses it by now
                path.rmdir()


def meet(place: str, mark: str) -> str | None:
    """Leave a mark in the meeting place; what is wrong with the place, if anything."""
    store = store_of(place)
    try:
        if not _appears(place, HOST):
            other = not is_address(store) and Path(store).is_dir()
            there = ": another folder has this path there" if other else ""
            return f"does not see the store {store}{there}"
        storage_at(place).create(mark, b"")
    except OSError as error:
        return f"cannot write to the store: {os_reason(error)}"
    return None


def has_met(place: str, mark: str) -> bool:
    """Whether the mark has arrived here."""
    return _appears(place, mark)


def store_of(place: str) -> str:
    """The store that the meeting place is in."""
    return place.rpartition("/")[0]


def _appears(place: str, mark: str) -> bool:
    """Whether the mark is there, or soon is."""
    storage, end = storage_at(place), time.monotonic() + SEE
    while not storage.exists(mark):
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def _missing(folder: Path) -> list[Path]:
    return [path for path in (folder, *folder.parents) if not path.exists()]


__all__ = ["has_met", "meet", "meeting_place", "store_of"]
