"""From trial records back to a suite's tables and report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.records.collect import collect
from harness.records.files import read_json
from harness.records.store import Store
from harness.suite import load

if TYPE_CHECKING:
    import pandas as pd


def rebuild(suite: str, store: Store) -> Path:
    """Collect, report and mirror a suite that has been run; returns the page's path.

    Raises:
        ValueError: no such suite, or no record of it in this store.
    """
    from harness.records.mirror import mirror
    from harness.report import write_report

    name = load(suite).name
    plan = planned(name, store)
    collect(store, name, plan)
    write_report(store.suite(name), name, plan.get("command", f"harness run {suite}"))
    mirror(store, name, None)
    return store.suite(name) / "index.html"


def comparison_of(suite: str, store: Store) -> pd.DataFrame:
    """The comparison table of a suite that has been run."""
    from harness.records.schemas import read_table
    from harness.report.comparison import compare

    name = load(suite).name
    planned(name, store)
    path = store.suite(name) / "trials.parquet"
    if not path.is_file():
        raise ValueError(f"no record of suite {name} in {store.root}: run it first")
    return compare(read_table(path, "trials").to_pandas())


def planned(name: str, store: Store) -> dict[str, Any]:
    """The stored plan of a suite.

    Raises:
        ValueError: there is none.
    """
    path = store.suite(name) / "plan.json"
    if not path.is_file():
        raise ValueError(f"no record of suite {name} in {store.root}: run it first")
    return read_json(path)
