"""What a store keeps for one suite or study: its plan, its tables, its report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.records.files import sweep, write_atomic
from harness.records.sealed import read_sealed, write_sealed

if TYPE_CHECKING:
    import pyarrow as pa

PLAN, STUDY = "plan.json", "study.json"
PAGE, ANSWER = "index.html", "answer.md"


class SuiteRecords:
    """The records of one suite or study, whether there are any or not.

    All of them are views that can be rebuilt, except the plan (which trials the suite shows) and a
    study's record. `folder` is for this room only; others read and write by name.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = Path(folder)
        self.name = name

    def place(self, file: str = "") -> str:
        """The path of a file of the suite, or of its folder, to show to people."""
        return str(self.folder / file)

    @property
    def page(self) -> str:
        """The path of the report's page."""
        return self.place(PAGE)

    # The plan of a suite, the record of a study

    def has_plan(self) -> bool:
        """Whether there is a plan."""
        return (self.folder / PLAN).exists()

    def plan(self) -> dict[str, Any]:
        """The plan of the latest run: `{"trials": [{trial_id, label, ...}, ...], ...}`.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged; one line, which says what to do.
        """
        again = f"run {self.name} again: that rewrites it and keeps every trial that has ended"
        path = self.folder / PLAN
        plan = read_sealed(path, ("trials",), again, optional=("suite", "command", "of"))
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
        write_sealed(self.folder / PLAN, plan)

    def has_study(self) -> bool:
        """Whether this is a study."""
        return (self.folder / STUDY).exists()

    def study(self) -> dict[str, Any]:
        """The record of a study, `study.json`.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged; one line, which says what to do.
        """
        keys = ("study", "state", "full", "candidates", "finalists", "recommendation")
        again = "harness tune writes it anew, and keeps what has ended"
        return read_sealed(self.folder / STUDY, keys, again, optional=("command", "spent"))

    def write_study(self, content: Mapping[str, Any]) -> None:
        """Replace the record of a study."""
        write_sealed(self.folder / STUDY, content)

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

        return schemas.read_table(self.folder / f"{name}.parquet", name)

    def write_table(self, name: str, table: pa.Table) -> None:
        """Write a table atomically."""
        from harness.records import schemas

        self.write(f"{name}.parquet", schemas.table_bytes(table))

    def has(self, file: str) -> bool:
        """Whether there is a file of this name."""
        return (self.folder / file).is_file()

    def read(self, file: str) -> bytes:
        """The bytes of a file. Raises FileNotFoundError."""
        return (self.folder / file).read_bytes()

    def write(self, file: str, data: bytes) -> None:
        """Write a file (`figures/NAME` too) atomically."""
        write_atomic(self.folder / file, data)

    def sweep(self) -> None:
        """Remove temporary files that killed processes left an hour ago or earlier."""
        sweep(self.folder)


__all__ = ["ANSWER", "PAGE", "SuiteRecords"]
