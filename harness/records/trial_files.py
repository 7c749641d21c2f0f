"""The files of a trial: where they lie, and that they are as they were written."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.records import checksums, schemas
from harness.records.states import Damaged, States
from harness.records.storage import Storage
from harness.tools.inputs import parse_json

RECORDED = (  # files of an ended trial whose checksums are in its result
    "spec.json", "manifest.json", "model.safetensors", "model.json",
    *(f"{name}.parquet" for name in schemas.TRIAL_TABLES),
)  # fmt: skip
SHARED = ("spec.json", "manifest.json", checksums.RESULT, "failure.json")  # by all runs of a trial
# There is something other than a file: no retry helps, so it counts as damage.
_NO_FILE = {errno.EISDIR, errno.ENOTDIR, errno.ELOOP}


class TrialFiles(States):
    """The files of one trial.

    Those of an ended trial lie beside its result, or in the place that the result names (see
    `States`). Every read of one is compared with its checksum and may raise `Damaged`.
    """

    def __init__(self, storage: Storage, trial_id: str) -> None:
        super().__init__(storage, f"trials/{trial_id}/")
        self.trial_id = trial_id
        self._written: dict[str, str] = {}  # checksums of what this object wrote
        self._sums: dict[str, str] | None = None  # those of the result, once read
        self._counts = 0  # the place that the result names, once read

    @property
    def path(self) -> Path:
        """The trial's folder. Raises ValueError if the store is no folder."""
        return self.storage.path(f"trials/{self.trial_id}")

    @property
    def place(self) -> str:
        """The trial's folder, for people."""
        return self.storage.place(f"trials/{self.trial_id}")

    def ended(self) -> bool:
        """Whether the trial has ended: completed, diverged or failed."""
        return self.storage.exists(self._in(0, checksums.RESULT))

    def written_at(self, file: str) -> float | None:
        """When `manifest.json` or `result.json` was written, in seconds since the epoch."""
        return self.storage.modified(self._in(0, file))

    def ended_at(self) -> float:
        """When the result was written, in seconds since the epoch. Raises FileNotFoundError."""
        written = self.written_at(checksums.RESULT)
        if written is None:
            raise FileNotFoundError(errno.ENOENT, "no result", self.place)
        return written

    def result(self) -> dict[str, Any] | None:
        """The result, or None while the trial has not ended. Raises Damaged."""
        content = self._read(checksums.RESULT)
        if content is None:
            return None
        try:
            self._sums = checksums.check(content, self.trial_id)
            self._counts = _place_in(content)
            if not self._sums:
                schemas.make_table("trials", [content["record"]])
        except ValueError as error:
            raise self.damaged(f"{checksums.RESULT}: {error}") from None
        return content

    def checksums(self) -> dict[str, str]:
        """Checksums by file name, from the result; empty before the end and for old results that
        have none. Raises Damaged."""
        if self._sums is None and self.ended():
            self.result()
        return self._sums or {}

    def damaged(self, reason: str) -> Damaged:
        """The error to raise for a damaged file of this record."""
        return Damaged(
            f"the record in {self.place} is damaged ({reason}); "
            "remove that folder to run the trial again"
        )

    def _key(self, name: str, place: int) -> str:
        """The key of a recorded file of the run in that place."""
        return self._in(0 if name in SHARED else place, name)

    def _place_of_result(self) -> int:
        """The place that the result names; 0 before the end. Raises Damaged."""
        self.checksums()
        return self._counts

    def _put(self, name: str, data: bytes) -> None:
        self.check()
        self.storage.write(self._mine(name), data)
        self._written[name] = checksums.digest(data)

    def _digests(self) -> dict[str, str]:
        """Checksums of the recorded files, as written if this object wrote them."""
        found = {}
        for name in RECORDED:
            if name in self._written:
                found[name] = self._written[name]
            elif (stored := self.storage.read(self._key(name, self._number))) is not None:
                found[name] = checksums.digest(stored.data)
        return found

    def _remove(self, key: str) -> None:
        """Remove an object, or all below a key."""
        self.storage.delete(key)
        self.storage.delete_all(f"{key}/")

    def _read(self, name: str) -> dict[str, Any] | None:
        """A JSON object of the record, or None if it is missing."""
        data = self._bytes(name)
        if data is None:
            return None
        try:
            content = parse_json(data, name)
            if not isinstance(content, dict):
                raise ValueError(f"{name} is not a JSON object")
        except ValueError as error:
            raise self.damaged(str(error)) from None
        return content

    def _whole(self, name: str) -> bytes:
        data = self._bytes(name)
        if data is None:
            raise self.damaged(f"{name} is missing")
        return data

    def _bytes(self, name: str) -> bytes | None:
        """A file of the record, compared with its checksum; None if it is missing."""
        wanted = self.checksums().get(name) if name != checksums.RESULT else None
        try:
            stored = self.storage.read(self._key(name, self._counts))
        except OSError as error:
            if error.errno == errno.ELOOP and name == checksums.RESULT:
                return None  # as for `ended`
            if error.errno not in _NO_FILE:
                raise
            raise self.damaged(f"{name}: {error.strerror}") from None
        if stored is None:
            return None
        if wanted not in (None, checksums.digest(stored.data)):
            raise self.damaged(f"{name} is not as it was written: its checksum differs")
        return stored.data


def _place_in(result: Mapping[str, Any]) -> int:
    place = result.get(checksums.PLACE, 0)
    if type(place) is not int or place < 0:
        raise ValueError(f"{checksums.PLACE} is no number of a place")
    return place


__all__ = ["RECORDED", "SHARED", "TrialFiles"]
