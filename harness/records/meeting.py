"""Whether machines see the same store: they leave marks for each other in a folder of it."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from harness.tools.inputs import os_reason

SEE = 5.0  # seconds until a mark must be seen on another machine; network file systems cache
HOST = "host"  # the mark of whoever made the place


@contextlib.contextmanager
def meeting_place(store_root: Path) -> Iterator[Path]:
    """A new folder in the store with a file of this process; it does not stay."""
    missing = [path for path in (store_root, *store_root.parents) if not path.exists()]
    place = store_root / f".nodes-{secrets.token_hex(8)}"
    try:
        place.mkdir(parents=True)
        (place / HOST).touch()
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        for path in missing:
            with contextlib.suppress(OSError):  # somebody else uses it by now
                path.rmdir()


def meet(place: Path, mark: str) -> str | None:
    """Leave a mark in the meeting place; what is wrong with the place, if anything."""
    if not _appears(place / HOST):
        other = ": another folder has this path there" if place.parent.is_dir() else ""
        return f"does not see the store {place.parent}{other}"
    try:
        (place / mark).touch()
    except OSError as error:
        return f"cannot write to the store: {os_reason(error)}"
    return None


def has_met(place: Path, mark: str) -> bool:
    """Whether the mark has arrived here."""
    return _appears(place / mark)


def _appears(path: Path) -> bool:
    """Whether the file is there, or soon is."""
    end = time.monotonic() + SEE
    while not path.exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


__all__ = ["has_met", "meet", "meeting_place"]
