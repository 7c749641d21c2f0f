"""One trial's folder: its spec, its result, and what it needs to resume."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from harness.records import checksums, schemas
from harness.records.files import json_bytes
from harness.records.lease import Busy, ClaimLost, Watch, claim_key, held, silent_owner
from harness.records.states import Damaged
from harness.records.tensors import Tensors, pack, unpack
from harness.records.trial_files import RECORDED, SHARED, TrialFiles

if TYPE_CHECKING:
    import pyarrow as pa
    import torch


class TrialDir(TrialFiles):
    """One trial's record. It has ended if and only if `result.json` exists."""

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
                raise ValueError(f"{self.place} holds the record of another spec")
        if known is None:
            self.storage.create(self._in(0, "spec.json"), json_bytes(spec))
        if self.manifest() is None:
            self.storage.create(self._in(0, "manifest.json"), json_bytes(manifest))

    def spec(self) -> dict[str, Any] | None:
        """The trial's spec, or None before `begin`. Raises Damaged."""
        return self._read("spec.json")

    def manifest(self) -> dict[str, Any] | None:
        """The machine and versions that the trial started with, or None. Raises Damaged."""
        return self._read("manifest.json")

    @contextlib.contextmanager
    def claim(
        self,
        owner: str | None = None,
        instead_of: str | None = None,
        watch: Watch | None = None,
    ) -> Iterator[TrialDir]:
        """Hold this trial, so that no second process runs it; see `lease.acquire`.

        Raises:
            Busy: another process holds it.
        """
        what, key = f"trial {self.trial_id}", self._claim_key
        with held(
            self.storage, key, what, owner=owner, instead_of=instead_of, watch=watch
        ) as self._lease:
            try:
                self.storage.sweep(self._in(0, ""))
                if self.ended():
                    self._clean_up()
                yield self
            finally:
                self._lease = None

    def silent_owner(self, watch: Watch) -> str | None:
        """Whom to claim this trial instead of; see `lease.silent_owner`."""
        return silent_owner(self.storage, self._claim_key, watch)

    def tidy(self) -> None:
        """Remove what processes left that were killed, or frozen, around the end."""
        with contextlib.suppress(Busy, OSError, Damaged):  # what stays does no harm
            if self.ended() and self._has_leftovers():
                with self.claim():
                    pass

    def _has_leftovers(self) -> bool:
        if self.storage.children(self._in(0, "checkpoint/")):
            return True
        others = self.storage.children(self._in(0, "epochs/"))
        return bool(others) and bool(self._without_use())

    def _clean_up(self) -> None:
        """Remove all that an ended trial does not need: checkpoints, and what runs have left that
        do not count."""
        for place in {0, self._place_of_result()}:
            self.storage.delete_all(self._in(place, "checkpoint/"))
        for key in self._without_use():
            self._remove(key)

    def _without_use(self) -> list[str]:
        """The keys of what runs have left whose place is not that of the result."""
        counts = self._place_of_result()
        places = self.storage.children(self._in(0, "epochs/"))
        found = [self._in(0, f"epochs/{name}") for name in places if name != str(counts)]
        if counts:
            there = {*self.storage.children(self._in(0, ""))}
            found += [self._in(0, name) for name in RECORDED if name in there - {*SHARED}]
        return found

    # How it ended

    def lost_end(self) -> Damaged | None:
        """The error to raise if only `result.json` is missing from an ended trial."""
        files = self.storage.children(self._in(0, ""))
        tables = all(f"{name}.parquet" in files for name in schemas.TRIAL_TABLES)
        if self.ended() or not tables or "checkpoint" in files:
            return None
        return self.damaged(
            "result.json is missing, but everything else of an ended trial is there"
        )

    def finish(self, tables: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
        """End the trial: write its tables, then `result.json`, then drop the checkpoint.

        Returns the result as written, with the checksums of the trial's files. It is created, never
        replaced: a run that another one has overtaken ends nothing.

        `tables` maps `curves`, `truncations` and `spectra` to rows (dicts); a missing one is
        written empty. `result["record"]` holds the fixed columns of `trials`.

        Raises:
            ValueError: a row does not fit its schema, or a number in the result is NaN; nothing is
                written.
            ClaimLost: another process has taken the trial over, or ended it.
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
        place = {checksums.PLACE: self._number} if self._number else {}
        sealed = checksums.seal({**result, **place}, self._digests())
        if self._lease is not None:
            self._lease.confirm()
        if self.storage.create(self._in(0, checksums.RESULT), json_bytes(sealed)) is None:
            raise ClaimLost(f"trial {self.trial_id} was ended by another process")
        self._counts = self._number
        self._clean_up()
        return sealed

    def table(self, name: str) -> pa.Table:
        """One of the trial's tables. Raises Damaged, also if it is missing."""
        data = self._whole(f"{name}.parquet")
        try:
            return schemas.parse_table(data, name, f"{name}.parquet")
        except ValueError as error:
            raise self.damaged(str(error)) from None

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

    def write_failure(self, failure: Mapping[str, Any]) -> None:
        """Note the machine's latest fault; it does not end the trial."""
        self.storage.write(self._in(0, "failure.json"), json_bytes(failure))

    def failure(self) -> dict[str, Any] | None:
        """The machine's latest fault, or None."""
        return self._read("failure.json")

    def wipe(self) -> None:
        """Remove everything but the spec, so that the trial can be run again from its start."""
        self._sums, self._counts = None, 0
        # First the file that marks the end: a kill in between then leaves an unfinished trial.
        self.storage.delete(self._in(0, checksums.RESULT))
        for name in self.storage.children(self._in(0, "")):
            if name != "spec.json":
                self._remove(self._in(0, name))

    # The selected model

    def save_model(self, tensors: Tensors, description: Mapping[str, Any]) -> None:
        """Write the selected model and what is needed to rebuild it (`model.json`, last).

        Raises ClaimLost.
        """
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
                errno.ENOENT, f"no stored model of trial {self.trial_id}", f"{self.place}/{missing}"
            )
        try:
            return unpack(weights, "model.safetensors"), description
        except ValueError as error:
            raise self.damaged(str(error)) from None

    @property
    def _claim_key(self) -> str:
        return claim_key(f"trial-{self.trial_id}")
