"""`harness.open_store`: what a store holds, as data frames."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from harness.records.index import Results
from harness.records.store import Store
from harness.tools.inputs import cut, shown

from .suites import SuiteLike, suite_of

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from torch import nn

StoreLike: TypeAlias = "str | PathLike[str] | Store | StoreView | None"


class StoreView:
    """The records of a store, read and never written.

    Frames have the columns documented in `harness.records.schemas`. With `suite` (a suite, a study
    or its name) they are the tables of its last report, or of its ended trials if there is none
    yet; without, of all ended trials. A trial whose record is damaged has the status
    `damaged` in `trials`, and is in no other frame.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def __repr__(self) -> str:
        return f"<store {self.store.address}: {len(self.store.ended_trials())} ended trials>"

    def suites(self) -> list[str]:
        """Names of the suites and studies that have records."""
        return self.store.suites()

    def trials(self, suite: SuiteLike | None = None) -> pd.DataFrame:
        """One row per ended trial; for a suite, one per row of the comparison that uses it."""
        return self._table("trials", suite)

    def curves(self, suite: SuiteLike | None = None) -> pd.DataFrame:
        """Losses and metrics over training: `trial_id, step, split, metric, value, seconds`."""
        return self._table("curves", suite)

    def truncations(self, suite: SuiteLike | None = None) -> pd.DataFrame:
        """One row per truncation and block."""
        return self._table("truncations", suite)

    def spectra(self, suite: SuiteLike | None = None) -> pd.DataFrame:
        """Hankel singular values and mode shares by trial, step and block."""
        return self._table("spectra", suite)

    def comparison(self, suite: SuiteLike | None = None) -> pd.DataFrame:
        """The comparison of a suite or, with a first column `suite`, of all suites.

        For a study it is the one on fresh seeds, once there is one. The numbers come from
        `comparison.parquet` if a report was written; otherwise they are computed from the ended
        trials.

        Raises:
            ValueError: no record of the suite, or none of its trials has ended.
        """
        import pandas as pd

        if suite is not None:
            return self._comparison(self._name(suite))
        names = [name for name in self.suites() if self._has_ended(name)]
        frames = [self._comparison(name) for name in names]
        for name, frame in zip(names, frames, strict=True):
            frame.insert(0, "suite", name)
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["suite"])

    def load_model(self, trial_id: str) -> nn.Module:
        """The selected model of a trial, on the CPU, in evaluation mode.

        Raises:
            ValueError: no such trial, one without a model, or a damaged one.
        """
        from harness.models.description import rebuild

        trial = self.store.trial(trial_id)
        if trial.spec() is None:
            raise ValueError(f"{self.store.address} has no trial {trial_id}")
        try:
            weights, description = trial.load_model()
        except FileNotFoundError as error:
            raise ValueError(f"{error.strerror}: {error.filename} is missing") from None
        return rebuild(description, weights)

    def _comparison(self, suite: str) -> pd.DataFrame:
        from harness.report.comparison.compare import compare
        from harness.tune.rebuild_study import newest_comparison

        is_study = self.store.kind_of(suite) == "study"
        return compare(self.trials(newest_comparison(suite, self.store) if is_study else suite))

    def _has_ended(self, suite: str) -> bool:
        entries = self.store.suite(suite).plan_or_empty().get("trials", ())
        found = Results(self.store)
        return any(found.ended(entry["trial_id"]) for entry in entries)

    def _table(self, name: str, suite: SuiteLike | None) -> pd.DataFrame:
        from harness.records.collect import gather, gather_all
        from harness.report.rebuild import planned

        wanted: Sequence[str] = () if name == "trials" else (name,)
        if suite is None:
            return _frame(gather_all(self.store, wanted).tables[name])
        recorded = self._name(suite)
        plan, records = planned(recorded, self.store), self.store.suite(recorded)
        if records.has_table("trials") and records.has_table(name):
            return _frame(records.table(name))
        return _frame(gather(self.store, plan, wanted).tables[name])

    def _name(self, suite: SuiteLike) -> str:
        """The name under which a suite is recorded. Raises ValueError for one that is not."""
        if isinstance(suite, str) and self.store.kind_of(suite) is not None:
            return suite
        with contextlib.suppress(ValueError, OSError):
            name = suite_of(suite).name
            if self.store.kind_of(name) is not None:
                return name
        called, known = str(getattr(suite, "name", suite)), ", ".join(self.suites()) or "none"
        raise ValueError(
            f"no record of a suite {shown(called)} in {self.store.address}; it has {cut(known)}"
        )


def open_store(path: StoreLike = None) -> StoreView:
    """The store in a folder, to read; by default that of `HARNESS_STORE`, or `results/local`.

    Creates and changes nothing.

    Raises:
        ValueError: there is no such folder, or it holds no records.
    """
    store = existing_or_new(path)
    if not store.is_there():
        raise ValueError(f"there is no store {cut(store.address)}")
    if not store.has_records():
        raise ValueError(f"{cut(store.address)} is no store: it holds neither trials nor suites")
    return StoreView(store)


def load_model(trial: str | PathLike[str], store: StoreLike = None) -> nn.Module:
    """The selected model of a trial, on the CPU, in evaluation mode.

    `trial` is a trial's id, looked up in the store, or a trial's folder.

    Raises:
        ValueError: no such trial, one without a model, or a damaged one.
    """
    if isinstance(trial, PathLike) or Path(trial).is_dir():
        from harness.models import load

        return load(Path(trial))
    return open_store(store).load_model(trial)


def existing_or_new(store: StoreLike, create: bool = False) -> Store:
    """The given store, which may not exist yet; with `create` it must be writable."""
    if isinstance(store, StoreView):
        store = store.store
    if isinstance(store, Store):
        return Store.open(store.address, create=create)
    if store is not None and not isinstance(store, str | PathLike):
        raise ValueError(f"a store is a folder; got {shown(store)}")
    return Store.open(store, create=create)


def _frame(table: pa.Table) -> pd.DataFrame:
    return table.to_pandas()


__all__ = ["StoreLike", "StoreView", "existing_or_new", "load_model", "open_store"]
