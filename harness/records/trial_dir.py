"""One trial's folder: its spec, its result, and what it needs to resume."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.records import checksums, schemas
from harness.records.files import TEMPORARY_PREFIX, json_bytes, write_atomic, write_json
from harness.records.locks import Busy, store_lock
from harness.records.states import Damaged, States
from harness.records.tensors import Tensors, pack, unpack
from harness.tools.inputs import parse_json

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

RECORDED = (  # files of an ended trial whose checksums are in its result
    "spec.json", "manifest.json", "model.safetensors", "model.json",
    *(f"{name}.parquet" for name in schemas.TRIAL_TABLES),
)  # fmt: skip
# There is something other than a file: no retry helps, so it counts as damage.
_NO_FILE = {errno.EISDIR, errno.ENOTDIR, errno.ELOOP}


class TrialDir(States):
    """One trial's folder. It has ended if and only if `result.json` exists.

    Every read of an ended trial's file is compared with its checksum and may raise `Damaged`.
    """

    def __init__(self, root: Path, trial_id: str) -> None:
        self.root = root  # of its store
        self.trial_id = trial_id
        super().__init__(root / "trials" / trial_id)
        self._written: dict[str, str] = {}  # checksums of what this object wrote
        self._sums: dict[str, str] | None = None  # those of the result, once read

    # The spec, and where the trial runs

    def begin(
        self,
        spec: Mapping[str, Any],
        manifest: Mapping[str, Any],
        is_same: Callable[[dict[str, Any]], bool] | None = None,
    ) -> None:
        """Write `spec.json` and `manifest.json` if they are missing.

        The first of each stays, for a resume to compare with. `is_same` says whether a stored spec,
        which may lack newer fields, is this one; without it they must be equal.
        Raises ValueError if the folder holds another spec.
        """
        known = self.spec()
        if known is not None:
            equal = schemas.canonical(known) == schemas.canonical(spec)
            if not equal and not (is_same and is_same(known)):
                raise ValueError(f"{self.path} holds the record of another spec")
        if known is None:
            self._put("spec.json", json_bytes(spec))
        if self.manifest() is None:
            self._put("manifest.json", json_bytes(manifest))

    def spec(self) -> dict[str, Any] | None:
        """The trial's spec, or None before `begin`. Raises Damaged."""
        return self._read("spec.json")

    def manifest(self) -> dict[str, Any] | None:
        """The machine and versions that the trial started with, or None. Raises Damaged."""
        return self._read("manifest.json")

    @contextlib.contextmanager
    def claim(self) -> Iterator[TrialDir]:
        """Lock this trial, so that no second process runs it. Raises `locks.Busy`.

        Removes what a killed process left half-written.
        """
        with store_lock(self.root, f"trial-{self.trial_id}", f"trial {self.trial_id}"):
            for leftover in self.path.glob(f"**/{TEMPORARY_PREFIX}*"):
                leftover.unlink(missing_ok=True)
            if self.ended():
                self.drop_checkpoint()
            yield self

    def tidy(self) -> None:
        """Remove the checkpoint left by a process that was killed right after the end."""
        if self.ended() and self._checkpoint.parent.exists():
            with contextlib.suppress(Busy, OSError), self.claim():  # it does no harm
                pass

    # How it ended

    def ended(self) -> bool:
        """Whether the trial has ended: completed, diverged or failed."""
        return (self.path / "result.json").exists()

    def ended_at(self) -> float:
        """When the result was written, in seconds since the epoch. Raises FileNotFoundError."""
        return (self.path / checksums.RESULT).stat().st_mtime

    @property
    def place(self) -> str:
        """The trial's folder, for people."""
        return str(self.path)

    def lost_end(self) -> Damaged | None:
        """The error to raise if only `result.json` is missing from an ended trial."""
        tables = all((self.path / f"{name}.parquet").exists() for name in schemas.TRIAL_TABLES)
        if self.ended() or not tables or self._checkpoint.exists():
            return None
        return self.damaged(
            "result.json is missing, but everything else of an ended trial is there"
        )

    def result(self) -> dict[str, Any] | None:
        """The result, or None while the trial has not ended. Raises Damaged."""
        content = self._read(checksums.RESULT)
        if content is None:
            return None
        try:
            self._sums = checksums.check(content, self.trial_id)
            if not self._sums:
                schemas.make_table("trials", [content["record"]])
        except ValueError as error:
            raise self.damaged(f"{checksums.RESULT}: {error}") from None
        return content

    def finish(self, tables: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
        """End the trial: write its tables, then `result.json`, then drop the checkpoint.

        Returns the result as written, with the checksums of the trial's files.

        `tables` maps `curves`, `truncations` and `spectra` to rows (dicts); a missing one is
        written empty. `result["record"]` holds the fixed columns of `trials`. Raises ValueError
        and writes nothing if a row does not fit its schema or a number in the result is NaN.
        """
        unknown = sorted(set(tables) - set(schemas.TRIAL_TABLES))
        if unknown:
            raise ValueError(f"a trial has no table {', '.join(unknown)}")
        record = result.get("record")
        if not isinstance(record, Mapping) or record.get("trial_id") != self.trial_id:
            raise ValueError(f"the result of trial {self.trial_id} has no record of that trial")
        schemas.make_table("trials", [record])
        schemas.canonical(result)
        spec = self.spec()
        ready = {
            name: schemas.make_table(name, tables.get(name, ()), spec)
            for name in schemas.TRIAL_TABLES
        }
        for name, table in ready.items():
            self._put(f"{name}.parquet", schemas.table_bytes(table))
        sealed = checksums.seal(result, self._digests())
        write_json(self.path / checksums.RESULT, sealed)
        self.drop_checkpoint()
        return sealed

    def table(self, name: str) -> pa.Table:
        """One of the trial's tables. Raises Damaged, also if it is missing."""
        data = self._whole(f"{name}.parquet")
        try:
            return schemas.parse_table(data, name, f"{name}.parquet")
        except ValueError as error:
            raise self.damaged(str(error)) from None

    def checksums(self) -> dict[str, str]:
        """Checksums by file name, from the result; empty before the end and for old results that
        have none. Raises Damaged."""
        if self._sums is None and self.ended():
            self.result()
        return self._sums or {}

    def damage(self) -> list[str]:
        """Every file of an ended trial that has changed since it was written, one line each.

        Reads all recorded files. If the result has no checksums, only unreadable files are found.
        """
        try:
            sums = self.checksums()
        except Damaged as error:
            return [str(error)]
        lost = self.lost_end()
        if lost or not self.ended():
            return [str(lost)] if lost else []
        found = []
        for name in RECORDED:
            try:
                if name in sums:
                    self._whole(name)
                elif name.endswith(".parquet"):
                    self.table(name.removesuffix(".parquet"))
            except Damaged as error:
                found.append(str(error))
        return found

    def damaged(self, reason: str) -> Damaged:
        """The error to raise for a damaged file of this record."""
        return Damaged(
            f"the record in {self.path} is damaged ({reason}); "
            "remove that folder to run the trial again"
        )

    def write_failure(self, failure: Mapping[str, Any]) -> None:
        """Note the machine's latest fault; it does not end the trial."""
        write_json(self.path / "failure.json", failure)

    def failure(self) -> dict[str, Any] | None:
        """The machine's latest fault, or None."""
        return self._read("failure.json")

    def wipe(self) -> None:
        """Remove everything but the spec, so that the trial can be run again from its start."""
        self._sums = None
        # First the file that marks the end: a kill in between then leaves an unfinished trial.
        _remove(self.path / checksums.RESULT)
        if not self.path.exists():
            return
        for path in self.path.iterdir():
            if path.name != "spec.json":
                _remove(path)

    # The selected model

    def save_model(self, tensors: Tensors, description: Mapping[str, Any]) -> None:
        """Write the selected model and what is needed to rebuild it (`model.json`, last)."""
        self._put("model.safetensors", pack(tensors))
        self._put("model.json", json_bytes(description))

    def load_model(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """(tensors on the CPU, description) of the selected model.

        Raises FileNotFoundError if there is none (never written, or removed), Damaged if it has
        changed since it was written.
        """
        description = self._read("model.json")
        weights = self._bytes("model.safetensors")
        if description is None or weights is None:
            missing = "model.json" if description is None else "model.safetensors"
            raise FileNotFoundError(
                errno.ENOENT, f"no stored model of trial {self.trial_id}", str(self.path / missing)
            )
        try:
            return unpack(weights, "model.safetensors"), description
        except ValueError as error:
            raise self.damaged(str(error)) from None

    def _put(self, name: str, data: bytes) -> None:
        write_atomic(self.path / name, data)
        self._written[name] = checksums.digest(data)

    def _digests(self) -> dict[str, str]:
        """Checksums of the recorded files, as written if this object wrote them."""
        there = {name: self.path / name for name in RECORDED if (self.path / name).is_file()}
        return {
            name: self._written.get(name) or checksums.digest(path.read_bytes())
            for name, path in there.items()
        }

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
        try:
            data = (self.path / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ELOOP and name == checksums.RESULT:
                return None  # as for `ended`
            if error.errno not in _NO_FILE:
                raise
            raise self.damaged(f"{name}: {error.strerror}") from None
        if name != checksums.RESULT:
            wanted = self.checksums().get(name)
            if wanted not in (None, checksums.digest(data)):
                raise self.damaged(f"{name} is not as it was written: its checksum differs")
        return data


def _remove(path: Path) -> None:
    """Remove a file, a link or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
