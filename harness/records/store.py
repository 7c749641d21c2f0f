"""The store: where trials and suites keep their files."""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

from harness import environment
from harness.records.files import plain_name
from harness.records.locks import store_lock
from harness.records.suite_records import SuiteRecords
from harness.records.trial_dir import TrialDir
from harness.tools.inputs import cut, is_plain_name, user_path
from harness.tools.redact import redacted

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class Store:
    """A folder of trials and suites. Creating this object touches nothing; see `open`."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    @classmethod
    def open(cls, path: str | os.PathLike[str] | None = None, create: bool = True) -> Store:
        """The store at `path`, by default that of `HARNESS_STORE`.

        Opening writes nothing: a missing folder is an empty store, created with its first record.
        With `create` the path must be writable. Raises a one-line ValueError for a path that is
        not a folder or not writable, and for the address of an object store.
        """
        given = environment.STORE.get() if path is None else path
        address = _ADDRESS.match(str(given))
        if address:
            raise ValueError(
                f"cannot use {cut(redacted(str(given)))} as a store: a store is a folder, and "
                f"{address[0]} addresses are not supported yet"
            )
        root = user_path(given, "the store")
        refused = f"cannot use {cut(str(root))} as a store"
        try:
            existing = next(p for p in (root, *root.parents) if p.exists() or p.is_symlink())
        except OSError as error:
            raise ValueError(f"{refused}: {error.strerror}") from None
        if not existing.exists():
            raise ValueError(f"{refused}: the link {cut(str(existing))} leads nowhere")
        if not existing.is_dir():
            raise ValueError(f"{refused}: {cut(str(existing))} is not a folder")
        if create:
            try:
                # Permission bits are not enough (read-only mounts, root, quotas): try it.
                with tempfile.TemporaryFile(dir=existing):
                    pass
            except OSError as error:
                raise ValueError(
                    f"cannot write to the store {cut(str(root))}: {error.strerror}"
                ) from None
        return cls(root)

    def trial(self, trial_id: str) -> TrialDir:
        """The trial's folder, whether it exists or not."""
        return TrialDir(self.root, plain_name(trial_id, "trial id"))

    def suite(self, name: str) -> SuiteRecords:
        """The records of a suite or study, whether there are any or not."""
        return SuiteRecords(self.root / "suites" / plain_name(name, "suite name"), name)

    def has_records(self) -> bool:
        """Whether any trial, suite or study has left anything here."""
        return any((self.root / name).is_dir() for name in ("trials", "suites"))

    def has_mirror(self) -> bool:
        """Whether there is a database for MLflow to show."""
        return (self.root / "mlflow.db").is_file()

    def suites(self) -> list[str]:
        """Names of all suites and studies with a record, sorted."""
        return sorted(p.name for p in self.root.glob("suites/*") if self.kind_of(p.name))

    def kind_of(self, name: str) -> Literal["study", "suite"] | None:
        """What is recorded under this name, if anything is."""
        if not is_plain_name(name):
            return None
        if self.suite(name).has_study():
            return "study"
        return "suite" if self.suite(name).has_plan() else None

    def has_lost(self, name: str) -> bool:
        """Whether there is a folder of that name that is neither a suite nor a study."""
        return (
            is_plain_name(name) and self.suite(name).folder.is_dir() and self.kind_of(name) is None
        )

    def trials(self) -> list[str]:
        """Ids of all trials that have started, sorted."""
        return sorted(path.parent.name for path in self.root.glob("trials/*/spec.json"))

    def ended_trials(self) -> list[str]:
        """Ids of all trials that have ended, however they ended, sorted."""
        return sorted(path.parent.name for path in self.root.glob("trials/*/result.json"))

    def lock(self, name: str, what: str, *, wait: bool = False) -> AbstractContextManager[None]:
        """Hold a lock of this store; see `locks.store_lock`."""
        return store_lock(self.root, name, what, wait=wait)


__all__ = ["Store", "SuiteRecords", "TrialDir"]
