"""From trial records back to a suite's tables and report."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from harness.records.store import Store
from harness.report.publish import publish
from harness.tools.redact import redacted

if TYPE_CHECKING:
    import pandas as pd


def rebuild(name: str, store: Store) -> list[str]:
    """Collect, report and mirror the suite of this name.

    Returns a line for each trial whose record is damaged and left out.

    Raises:
        ValueError: no record of it in this store.
    """
    plan = planned(name, store)
    command = redacted(str(plan.get("command", f"harness run {name}")))  # older ones are not
    published = publish(store, name, plan, command)
    if published.interrupted:
        raise KeyboardInterrupt
    return published.damaged


def trials_of(name: str, store: Store) -> list[str]:
    """Ids of the trials in a suite's plan, each once.

    Raises:
        ValueError: no record of it in this store.
    """
    return list(dict.fromkeys(entry["trial_id"] for entry in planned(name, store)["trials"]))


def lacking(name: str, store: Store) -> list[str]:
    """One line for each plug-in that trials of the suite ran with, and that is not loaded here."""
    from harness.plugins import lacking as lacking_of

    records = store.suite(name)
    if not records.has_table("trials"):
        return []
    recorded = {text for text in records.table("trials")["plugins"].to_pylist() if text}
    return lacking_of(one for text in sorted(recorded) for one in json.loads(text))


def comparison_of(name: str, store: Store) -> pd.DataFrame:
    """The comparison table of the suite of this name, from its collected trials.

    Raises:
        ValueError: no record of it in this store.
    """
    from harness.report.comparison.compare import compare

    planned(name, store)
    records = store.suite(name)
    if not records.has_table("trials"):
        raise ValueError(
            f"suite {name} in {store.root} has no table of finished trials: "
            f"harness report {name} makes it, if there are any"
        )
    try:
        return compare(records.table("trials").to_pandas())
    except ValueError as error:
        raise ValueError(f"{error}; harness report {name} makes the tables anew") from None


def planned(name: str, store: Store) -> dict[str, Any]:
    """The stored plan of a suite, as its newest run left it.

    Raises:
        ValueError: there is none, or none of its trials has ended.
    """
    records = store.suite(name)
    if not records.has_plan():
        raise ValueError(f"no record of suite {name} in {store.root}: run it first")
    plan = records.plan()
    if not any(store.trial(entry["trial_id"]).ended() for entry in plan["trials"]):
        raise ValueError(f"suite {name} in {store.root} has no finished trial yet")
    return plan
