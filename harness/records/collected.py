"""What a suite's tables hold already, so that only new and changed trials are read again.

`collected/trials.json` says which trials the tables were collected from, in the order of their
rows, and a fingerprint of each one's files. Rows are taken over only if the tables are as they were
written, under the schemas of this harness, and the trial's files as they were read.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from harness.records import schemas
from harness.records.checksums import digest
from harness.records.ended import Ended
from harness.records.listing import Files, fingerprint
from harness.records.store import SuiteRecords

_FILE = "collected/trials.json"
_TABLES = ("trials", *schemas.TRIAL_TABLES)


@dataclass(frozen=True)
class Collected:
    """A suite's tables, and where in them each trial's rows are."""

    tables: Mapping[str, pa.Table]
    trials: Mapping[str, tuple[int, str]]  # place among the trials, and fingerprint
    bounds: Mapping[str, Sequence[int]]  # by table: at which row each trial's begin, and the end
    records: Mapping[str, Mapping[str, Any]]
    specs: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, records: SuiteRecords) -> Collected | None:
        """What the suite has, if it can be relied on."""
        try:
            content = _unsealed(records.read(_FILE))
            data = {name: records.read(f"{name}.parquet") for name in _TABLES}
            if content is None or content["tables"] != _digests(data):
                return None
            tables = {name: schemas.parse_table(data[name], name, name) for name in _TABLES}
        except (OSError, ValueError):
            return None
        entries = content["trials"]
        counts = zip(*(entry[2:] for entry in entries), strict=True)
        return cls(
            tables,
            {entry[0]: (place, entry[1]) for place, entry in enumerate(entries)},
            {
                name: [0, *itertools.accumulate(of)]
                for name, of in zip(schemas.TRIAL_TABLES, counts, strict=False)
            },
            {row["trial_id"]: row for row in tables["trials"].select(_fixed()).to_pylist()},
            json.loads((tables["trials"].schema.metadata or {})[schemas.SPECS_KEY]),
        )

    def get(self, trial_id: str, files: Files) -> Ended | None:
        """The trial as it was collected, if its files are those that were read."""
        place, known = self.trials.get(trial_id, (0, ""))
        if known != fingerprint(files):
            return None
        return Ended(self.records[trial_id], self.specs[trial_id], {}, place)

    def rows(self, name: str, first: int, beyond: int) -> pa.Table:
        """The rows of a table that come from the trials of these places."""
        begin, end = self.bounds[name][first], self.bounds[name][beyond]
        return self.tables[name].slice(begin, end - begin)

    def count(self, name: str, place: int) -> int:
        """How many rows a trial has in a table."""
        return self.bounds[name][place + 1] - self.bounds[name][place]


def note_collected(
    records: SuiteRecords, data: Mapping[str, bytes], entries: Sequence[Sequence[Any]]
) -> None:
    """Say what the suite's tables, just written, were collected from.

    An entry is a trial's id, its fingerprint, and its rows in each of `TRIAL_TABLES`.
    """
    content = {"tables": _digests(data), "trials": entries}
    body = schemas.canonical(content)
    sealed = {"digest": digest(body.encode()), "content": content}
    records.write(_FILE, schemas.canonical(sealed).encode())


def _unsealed(data: bytes) -> dict[str, Any] | None:
    sealed = json.loads(data)
    whole = isinstance(sealed, dict) and sealed.keys() == {"digest", "content"}
    if not whole or sealed["digest"] != digest(schemas.canonical(sealed["content"]).encode()):
        return None
    return sealed["content"]


def _digests(data: Mapping[str, bytes]) -> dict[str, str]:
    """By table, the digest of its bytes and its schema: a column may have come since."""
    return {name: digest(data[name], _schema(name)) for name in _TABLES}


def _schema(name: str) -> bytes:
    return repr([(one.name, str(one.type)) for one in schemas.SCHEMAS[name]]).encode()


def _fixed() -> list[str]:
    return schemas.SCHEMAS["trials"].names


__all__ = ["Collected", "note_collected"]
