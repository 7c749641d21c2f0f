"""What drivers note of their launches: `suites/<suite>/launches/<id>.json`, a small object each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import nlargest

from harness.records.files import plain_name
from harness.records.store import Store
from harness.tools.inputs import is_plain_name

_ENDING = ".json"
READ_AT_MOST = 20  # notes of a suite, the newest


@dataclass(frozen=True)
class StoredNote:
    """A launch's note as it lies in the store: its bytes, and when the store got them, in seconds
    since the epoch."""

    launch: str
    data: bytes
    modified: float


def write_note(store: Store, suite: str, launch: str, data: bytes) -> None:
    """Replace a launch's note. Raises OSError."""
    key = f"{_folder(suite)}{plain_name(launch, 'launch')}{_ENDING}"
    store.storage.write(key, data, durable=False)  # the next one comes in seconds


def read_notes(store: Store, suite: str) -> Iterator[StoredNote]:
    """The suite's newest notes, the newest first."""
    found = (one for one in store.storage.list(_folder(suite)) if one.key.endswith(_ENDING))
    for entry in nlargest(READ_AT_MOST, found, key=lambda one: one.modified):
        stored = store.storage.read(entry.key)
        if stored is not None:
            launch = entry.key.rpartition("/")[2].removesuffix(_ENDING)
            yield StoredNote(launch, stored.data, entry.modified)


def suites_with_notes(store: Store) -> list[str]:
    """Names of the suites and studies of which a launch has left a note, sorted."""
    names = filter(is_plain_name, store.storage.children("suites/"))
    return [name for name in names if store.storage.children(_folder(name))]


def _folder(suite: str) -> str:
    return f"suites/{plain_name(suite, 'suite name')}/launches/"


__all__ = ["StoredNote", "read_notes", "suites_with_notes", "write_note"]
