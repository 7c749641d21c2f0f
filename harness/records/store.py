"""The store: where trials and suites keep their files."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from harness import environment
from harness.records.files import plain_name
from harness.records.lease import Lease, acquire, claim_key, when_free
from harness.records.storage import SCHEMES, Bucket, Storage, storage_at
from harness.records.suite_records import SuiteRecords
from harness.records.trial_dir import TrialDir
from harness.tools.inputs import cut, is_address, is_plain_name, user_path
from harness.tools.redact import redacted


class Store:
    """Trials and suites in a folder or a bucket. Creating this object touches nothing; see `open`.

    `address` is the folder's path, or `s3://BUCKET/PREFIX`.
    """

    def __init__(self, place: Path | str) -> None:
        self.storage: Storage = storage_at(place)
        self.address = self.storage.address

    @classmethod
    def open(cls, path: str | os.PathLike[str] | None = None, create: bool = True) -> Store:
        """The store at `path`, by default that of `HARNESS_STORE`.

        Opening writes nothing that stays: a missing folder, or an empty prefix of a bucket, is an
        empty store, created with its first record. With `create` it must be writable, and a bucket
        must heed conditions.

        Raises:
            ValueError: one line, for a path that is not a folder or not writable, and for a bucket
                that is not there, refuses an operation or cannot keep two writers apart.
        """
        given = environment.STORE.get() if path is None else path
        if is_address(given):
            return cls._open_bucket(str(given), create)
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

    @classmethod
    def _open_bucket(cls, address: str, create: bool) -> Store:
        scheme = address.partition("://")[0]
        if scheme not in SCHEMES:
            known = ", ".join(f"{one}://" for one in SCHEMES)
            raise ValueError(
                f"cannot use {cut(redacted(address))} as a store: a store is a folder or one of "
                f"{known}"
            )
        Bucket(address, patient=False).probe(writing=create)
        return cls(address)

    @property
    def root(self) -> Path:
        """The store's folder. Raises ValueError if it is a bucket."""
        return self.storage.path()

    @property
    def is_folder(self) -> bool:
        """Whether the store is a folder, which may hold databases; otherwise it is a bucket."""
        return not is_address(self.address)

    def absolute(self) -> str:
        """The address, for another process with another working directory."""
        return str(self.root.absolute()) if self.is_folder else self.address

    def is_there(self) -> bool:
        """Whether the folder exists; a bucket that could be opened always does."""
        return not self.is_folder or self.root.is_dir()

    def trial(self, trial_id: str) -> TrialDir:
        """The trial's folder, whether it exists or not."""
        return TrialDir(self.storage, plain_name(trial_id, "trial id"))

    def suite(self, name: str) -> SuiteRecords:
        """The records of a suite or study, whether there are any or not."""
        return SuiteRecords(self.storage, name, f"suites/{plain_name(name, 'suite name')}/")

    def has_records(self) -> bool:
        """Whether any trial, suite or study has left anything here."""
        return bool({"trials", "suites"} & {*self.storage.children()})

    def has_mirror(self) -> bool:
        """Whether there is a database for MLflow to show."""
        return self.storage.exists("mlflow.db")

    def suites(self) -> list[str]:
        """Names of all suites and studies with a record, sorted."""
        return [name for name in self.storage.children("suites/") if self.kind_of(name)]

    def kind_of(self, name: str) -> Literal["study", "suite"] | None:
        """What is recorded under this name, if anything is."""
        if not is_plain_name(name):
            return None
        if self.suite(name).has_study():
            return "study"
        return "suite" if self.suite(name).has_plan() else None

    def has_lost(self, name: str) -> bool:
        """Whether there is a folder of that name that is neither a suite nor a study."""
        return name in self.storage.children("suites/") and self.kind_of(name) is None

    def trials(self) -> list[str]:
        """Ids of all trials that have started, sorted."""
        return self._trials_with("spec.json")

    def ended_trials(self) -> list[str]:
        """Ids of all trials that have ended, however they ended, sorted."""
        return self._trials_with("result.json")

    def _trials_with(self, file: str) -> list[str]:
        if self.is_folder:
            names = self.storage.children("trials/")
            return [name for name in names if self.storage.exists(f"trials/{name}/{file}")]
        # A request for a thousand objects, instead of one for each.
        parts = (entry.key.split("/") for entry in self.storage.list("trials/"))
        return sorted(rest[0] for _, *rest in parts if rest[1:] == [file])

    @contextlib.contextmanager
    def lock(self, name: str, what: str, *, wait: bool = False) -> Iterator[Lease]:
        """Hold a claim of this store that is no trial's; see `lease.acquire`. With `wait`, as soon
        as it is free. Raises Busy."""
        key = claim_key(name)
        if wait:
            lease = when_free(lambda watch: acquire(self.storage, key, what, watch=watch))
        else:
            lease = acquire(self.storage, key, what)
        try:
            yield lease
        finally:
            lease.release()


__all__ = ["Store", "SuiteRecords", "TrialDir"]
