"""What a store keeps for one suite or study: its plan, its tables, its report."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.records.sealed import read_sealed, write_sealed
from harness.records.storage import Folder, Storage

if TYPE_CHECKING:
    import pyarrow as pa

PLAN, STUDY = "plan.json", "study.json"
PAGE, ANSWER = "index.html", "answer.md"


class SuiteRecords:
    """The records of one suite or study, whether there are any or not.

    All of them are views that can be rebuilt, except the plan (which trials the suite shows) and a
    study's record. `place` with `prefix` is where they lie.
    """

    def __init__(self, place: Storage | Path, name: str, prefix: str = "") -> None:
        self.storage = Folder(place) if isinstance(place, Path) else place
        self.name = name
        self._prefix = prefix

    @property
    def folder(self) -> Path:
        """The suite's folder, for this room only. Raises ValueError if the store is a bucket."""
        return self.storage.path(self._prefix)

    def place(self, file: str = "") -> str:
        """The path of a file of the suite, or of its folder, to show to people."""
        return self.storage.place(self._key(file))

    @property
    def page(self) -> str:
        """The path of the report's page."""
        return self.place(PAGE)

    # The plan of a suite, the record of a study

    def has_plan(self) -> bool:
        """Whether there is a plan."""
        return self.has(PLAN)

    def plan(self) -> dict[str, Any]:
        """The plan of the latest run: `{"trials": [{trial_id, label, ...}, ...], ...}`.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged; one line, which says what to do.
        """
        again = f"run {self.name} again: that rewrites it and keeps every trial that has ended"
        path = self.place(PLAN)
        optional = ("suite", "command", "of")
        plan = read_sealed(self.storage, self._key(PLAN), ("trials",), again, optional)
        known = ("trial_id", "label", "role", "task", "seed")
        entries = plan["trials"] if isinstance(plan["trials"], list) else [None]
        for entry in entries:
            if not isinstance(entry, dict) or not all(key in entry for key in known):
                raise ValueError(f"{path} is not a plan of trials; {again}")
        return plan

    def plan_or_empty(self) -> dict[str, Any]:
        """The plan; empty if there is none or it cannot be read."""
        try:
            return self.plan()
        except (ValueError, OSError):
            return {}

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        """Make these the trials that the suite shows."""
        write_sealed(self.storage, self._key(PLAN), plan)

    def has_study(self) -> bool:
        """Whether this is a study."""
        return self.has(STUDY)

    def study(self) -> dict[str, Any]:
        """The record of a study, `study.json`.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged; one line, which says what to do.
        """
        keys = ("study", "state", "full", "candidates", "finalists", "recommendation")
        again = "harness tune writes it anew, and keeps what has ended"
        return read_sealed(self.storage, self._key(STUDY), keys, again, ("command", "spent"))

    def write_study(self, content: Mapping[str, Any]) -> None:
        """Replace the record of a study."""
        write_sealed(self.storage, self._key(STUDY), content)

    # Tables and files

    def has_table(self, name: str) -> bool:
        """Whether the table was written."""
        return self.has(f"{name}.parquet")

    def table(self, name: str) -> pa.Table:
        """One of the collected tables: `trials`, `curves`, `truncations` or `spectra`.

        Raises:
            FileNotFoundError: it was never written.
            ValueError: it is damaged, or from a newer harness; one line.
        """
        from harness.records import schemas

        file = f"{name}.parquet"
        return schemas.parse_table(self.read(file), name, self.place(file))

    def write_table(self, name: str, table: pa.Table) -> None:
        """Write a table atomically."""
        from harness.records import schemas

        self.write(f"{name}.parquet", schemas.table_bytes(table))

    def has(self, file: str) -> bool:
        """Whether there is a file of this name."""
        return self.storage.exists(self._key(file))

    def read(self, file: str, at_most: int | None = None) -> bytes:
        """The bytes of a file. Raises FileNotFoundError, or ValueError if there are more."""
        stored = self.storage.read(self._key(file), at_most)
        if stored is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.place(file))
        return stored.data

    def write(self, file: str, data: bytes) -> None:
        """Write a file (`figures/NAME` too) atomically."""
        self.storage.write(self._key(file), data)

    def files(self) -> list[str]:
        """The names of all files of the suite, those in folders with their folder, sorted."""
        return sorted(e.key.removeprefix(self._prefix) for e in self.storage.list(self._prefix))

    def set_aside(self, file: str) -> str:
        """Give a file that cannot be read an unused name beside its own, and return that."""
        name = f"{file}.unreadable-{time.strftime('%Y%m%dT%H%M%S')}"
        while self.has(name):
            name += ".2"
        self.storage.rename(self._key(file), self._key(name))
        return name

    def sweep(self) -> None:
        """Remove temporary files that killed processes left."""
        self.storage.sweep(self._prefix)

    def _key(self, file: str) -> str:
        return f"{self._prefix}{file}".rstrip("/")


__all__ = ["ANSWER", "PAGE", "SuiteRecords"]
