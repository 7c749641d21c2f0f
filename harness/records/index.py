"""The index: copies of many results in few objects, so that nobody reads thousands of small ones.

The truth is each trial's `result.json`. A copy counts only as long as that has the size and the
time of writing that it had when it was copied; whatever is missing, stale or damaged here is read
where it lies. So the index may be removed at any time, and `index/` may be in any state.

Each segment is a parquet file that is written once. Its name is the digest of its content, so
that any number of processes may add segments, and what is damaged is known from its name.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness.records.checksums import RESULT, check, digest
from harness.records.listing import Stamp, ends_and_forks, result_stamps, stamp_of
from harness.records.schemas import canonical, table_bytes
from harness.records.states import Damaged
from harness.records.store import Store
from harness.tools.inputs import parse_json

FOLDER, _ENDING = "index/", ".parquet"
_DIGITS = 32  # of a segment's name
_VERSION = b"1"
SEGMENTS = 8  # more of them are made one
_SCHEMA = pa.schema(
    [
        ("trial_id", pa.string()),
        ("size", pa.int64()),  # bytes of its result.json
        ("modified", pa.float64()),  # when that was written, in seconds since the epoch
        ("result", pa.string()),  # its content as canonical JSON
    ],
    {b"version": _VERSION},
)
Copies = Mapping[tuple[str, Stamp], str]  # results as JSON, by trial and stamp


def read_index(store: Store) -> tuple[Copies, list[str]]:
    """All copies, and the names of the segments that may go once these are written anew: those
    read, and damaged ones."""
    copies: dict[tuple[str, Stamp], str] = {}
    names = []
    for name in store.storage.children(FOLDER):
        try:
            stored = store.storage.read(FOLDER + name) if name.endswith(_ENDING) else None
        except IsADirectoryError:
            continue
        if stored is None:
            continue
        found = _copies_in(stored.data) if name == _name_of(stored.data) else {}
        if found is not None:  # else it is of a newer harness
            copies |= found
            names.append(name)
    return copies, names


def add_to_index(store: Store, copies: Copies) -> str | None:
    """Write these copies, if any, as a segment, and return its name. Raises OSError."""
    if not copies:
        return None
    rows = sorted((trial_id, *stamp, text) for (trial_id, stamp), text in copies.items())
    columns = [pa.array(one, field.type) for one, field in zip(zip(*rows), _SCHEMA)]  # noqa: B905
    data = table_bytes(pa.Table.from_arrays(columns, schema=_SCHEMA))
    store.storage.write(FOLDER + _name_of(data), data)
    return _name_of(data)


def tidy_index(store: Store) -> None:
    """Make one segment of many, without the copies that no longer count. Raises OSError."""
    copies, names = read_index(store)
    if len(names) <= SEGMENTS:
        return
    current = {*result_stamps(store).items()}
    new = add_to_index(store, {key: text for key, text in copies.items() if key in current})
    for name in names:
        if name != new:
            store.storage.delete(FOLDER + name)


def _name_of(data: bytes) -> str:
    return digest(data)[:_DIGITS] + _ENDING


def _copies_in(data: bytes) -> dict[tuple[str, Stamp], str] | None:
    """The copies in a segment that is as it was written; None if it is in another format."""
    table = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
    if (table.schema.metadata or {}).get(b"version") != _VERSION:
        return None
    columns = (table[name].to_pylist() for name in _SCHEMA.names)
    return {(one, (size, at)): text for one, size, at, text in zip(*columns, strict=True)}


def copy_of(store: Store, trial_id: str) -> Copies:
    """The copy of a trial's result as it lies in the store; empty if there is no sound one."""
    key = f"trials/{trial_id}/{RESULT}"
    modified, stored = store.storage.modified(key), store.storage.read(key)
    if stored is None or modified is None:
        return {}
    try:
        content = parse_json(stored.data, RESULT)
        if not isinstance(content, dict) or not check(content, trial_id):
            return {}  # an old one without checksums, which is checked whenever it is read
    except ValueError:
        return {}
    return {(trial_id, (len(stored.data), modified)): canonical(content)}


class Results:
    """How trials have ended, from the index where its copies count, else from their results.

    On a disk each question is answered from what lies there now. In a bucket one listing says what
    there is, until `look` makes another; `learn` has a trial looked up by itself.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._copies: Copies | None = None
        self._listed: tuple[dict[str, Stamp], dict[str, list[int]]] | None = None
        self._learned: set[str] = set()

    def look(self) -> None:
        """Forget what was listed, and hence which trials had not ended."""
        self._listed = None

    def learn(self, trial_id: str) -> None:
        """This trial may have ended since the listing."""
        self._learned.add(trial_id)

    def ended(self, trial_id: str) -> bool:
        """Whether the trial has ended."""
        if self._stamp(trial_id) is not None:
            return True
        return trial_id in self._learned and self.store.trial(trial_id).ended()

    def result(self, trial_id: str) -> dict[str, Any] | None:
        """As `TrialDir.result`: None before the end. Raises Damaged."""
        stamp = self._stamp(trial_id)
        if stamp is None and trial_id not in self._learned:
            return None
        text = self.copies.get((trial_id, stamp)) if stamp is not None else None
        return json.loads(text) if text is not None else self.store.trial(trial_id).result()

    def forks(self, trial_id: str) -> list[int]:
        """The steps after which the trial keeps its state for others, ascending."""
        if self.store.is_folder:
            return self.store.trial(trial_id).forks()
        return self._listing[1].get(trial_id, [])

    def sound(self) -> Iterator[dict[str, Any]]:
        """The results of all ended trials of the store that are not damaged."""
        for trial_id in self.store.ended_trials():
            with contextlib.suppress(Damaged):
                result = self.result(trial_id)
                if result is not None:
                    yield result

    @property
    def copies(self) -> Copies:
        """The index, read on first use."""
        if self._copies is None:
            self._copies = read_index(self.store)[0]
        return self._copies

    def _stamp(self, trial_id: str) -> Stamp | None:
        if self.store.is_folder:
            return stamp_of(str(self.store.storage.path(f"trials/{trial_id}/{RESULT}")))
        return self._listing[0].get(trial_id)

    @property
    def _listing(self) -> tuple[dict[str, Stamp], dict[str, list[int]]]:
        if self._listed is None:
            self._listed = ends_and_forks(self.store)
        return self._listed


__all__ = ["Copies", "Results", "add_to_index", "copy_of", "read_index", "tidy_index"]
