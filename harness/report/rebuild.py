"""Rebuilding a suite's tables and report from the records of its trials."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from harness.records.index import Results
from harness.records.store import Store
from harness.report.publish import publish
from harness.tools.redact import redacted

if TYPE_CHECKING:
    import pandas as pd


def rebuild(name: str, store: Store) -> list[str]:
    """Collect, report and mirror the suite of this name.

    Returns one line for each trial that was left out because its record is damaged.

    Raises:
        ValueError: the store has no record of it.
    """
    plan = planned(name, store)
    command = redacted(
        str(plan.get("command", f"harness run {name}"))
    )  # old plans hold it as typed
    published = publish(store, name, plan, command)
    if published.interrupted:
        raise KeyboardInterrupt
    return published.damaged


def trials_of(name: str, store: Store) -> list[str]:
    """Ids of the trials in a suite's plan, without repeats.

    Raises:
        ValueError: the store has no record of it.
    """
    return list(dict.fromkeys(entry["trial_id"] for entry in planned(name, store)["trials"]))


def lacking(name: str, store: Store) -> list[str]:
    """One line for each plug-in that trials of the suite ran with but that is not loaded here."""
    from harness.plugins import lacking as lacking_of

    records = store.suite(name)
    if not records.has_table("trials"):
        return []
    recorded = {text for text in records.table("trials")["plugins"].to_pylist() if text}
    return lacking_of(one for text in sorted(recorded) for one in json.loads(text))


def comparison_of(name: str, store: Store) -> pd.DataFrame:
    """The comparison table of the suite of this name, from its collected trials.

    Raises:
        ValueError: the store has no record of it.
    """
    from harness.report.comparison.compare import compare

    trials = _trials(name, store)
    try:
        return compare(trials)
    except ValueError as error:
        raise ValueError(f"{error}; harness report {name} rebuilds the tables") from None


def differences_of(name: str, store: Store, baseline: str) -> pd.DataFrame:
    """Paired differences of the suite's rows over a baseline (see `comparison.over`).

    Raises:
        ValueError: the store has no record of the suite, or the suite has no such baseline.
    """
    from harness.report.comparison.over import over

    return over(_trials(name, store), baseline)


def _trials(name: str, store: Store) -> pd.DataFrame:
    """The suite's collected trials. Raises ValueError if the store has none, or a damaged table."""
    planned(name, store)
    records = store.suite(name)
    if not records.has_table("trials"):
        raise ValueError(
            f"suite {name} in {store.address} has no table of finished trials: "
            f"harness report {name} makes one if any trial has finished"
        )
    try:
        return records.table("trials").to_pandas()
    except ValueError as error:
        raise ValueError(f"{error}; harness report {name} rebuilds the tables") from None


def planned(name: str, store: Store) -> dict[str, Any]:
    """The stored plan of a suite's latest run.

    Raises:
        ValueError: there is no plan, or none of its trials has ended.
    """
    records = store.suite(name)
    if not records.has_plan():
        raise ValueError(f"no record of suite {name} in {store.address}: run it first")
    plan = records.plan()
    found = Results(store)
    if not any(found.ended(entry["trial_id"]) for entry in plan["trials"]):
        raise ValueError(f"suite {name} in {store.address} has no finished trial yet")
    return plan
