"""What a suite's tables take from ended trials: read from their folders, each file checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from harness.records import schemas
from harness.records.checksums import KEY, RESULT
from harness.records.index import Results
from harness.records.listing import Files
from harness.records.states import Damaged
from harness.records.store import Store, TrialDir

REQUESTS = 16  # at a time, to a bucket


@dataclass(frozen=True)
class Ended:
    """An ended trial: its record (the fixed columns of `trials`), spec and tables.

    The tables of one whose rows a suite has already are in that suite's, at this `place`.
    """

    record: Mapping[str, Any]
    spec: Mapping[str, Any]
    tables: Mapping[str, pa.Table]
    place: int | None = None


class Reader:
    """Reads ended trials, and keeps copies for the index of the results that it has not yet."""

    def __init__(self, store: Store, files: Mapping[str, Files], names: Sequence[str]) -> None:
        self.store, self.files, self.names = store, files, names
        self.results = Results(store)
        self.fresh: dict[tuple[str, tuple[int, float]], str] = {}

    def read(self, trials: Iterable[str]) -> dict[str, Ended | Damaged]:
        """The ended ones of these trials, or what is wrong with them, in their order."""
        wanted = list(trials)
        if self.store.is_folder:
            found = [self._read_or_damage(one) for one in wanted]
        else:
            with ThreadPoolExecutor(REQUESTS) as pool:
                found = list(pool.map(self._read_or_damage, wanted))
        return {one: what for one, what in zip(wanted, found, strict=True) if what is not None}

    def _read_or_damage(self, trial_id: str) -> Ended | Damaged | None:
        try:
            return self._read(trial_id)
        except Damaged as error:
            return error

    def _read(self, trial_id: str) -> Ended | None:
        """None before the trial's end. Raises Damaged."""
        trial, files = self.store.trial(trial_id), self.files[trial_id]
        result = trial.result() if RESULT in files else None
        if result is None:
            if has_tables(files) and (lost := trial.lost_end()) is not None:
                raise lost
            return None
        spec = trial.spec()
        if spec is None:
            raise trial.damaged("spec.json is missing")
        try:
            schemas.make_table("trials", [result["record"]])
        except ValueError as error:
            raise trial.damaged(f"{RESULT}: {error}") from None
        if KEY in result:
            copy = trial_id, files[RESULT]
            if copy not in self.results.copies:
                self.fresh[copy] = schemas.canonical(result)
        if "spec.json" not in result.get(KEY, {}):
            _refuse_other_spec(trial, spec)
        return Ended(result["record"], spec, {name: trial.table(name) for name in self.names})


def has_tables(files: Files) -> bool:
    """Whether the trial has written all its tables, which is what it does last but one."""
    return all(f"{name}.parquet" in files for name in schemas.TRIAL_TABLES)


def _refuse_other_spec(trial: TrialDir, spec: Mapping[str, Any]) -> None:
    """Raise Damaged unless a spec without a checksum hashes to the trial's id.

    Specs of newer harnesses may have unknown fields, so their id cannot be computed; those have
    checksums.
    """
    from harness.suite.specs import TrialSpec

    try:
        identity = TrialSpec.model_validate_json(schemas.canonical(spec)).trial_id
    except ValueError:  # pydantic's own is one
        raise trial.damaged("spec.json is no spec of this version, and has no checksum") from None
    if identity != trial.trial_id:
        raise trial.damaged(f"spec.json is that of trial {identity}")


__all__ = ["Ended", "Reader"]
