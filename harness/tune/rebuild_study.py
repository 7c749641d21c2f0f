"""Rebuild a study's tables, figures and page from records."""

from __future__ import annotations

from typing import Any

from harness.records.store import Store
from harness.report.rebuild import rebuild, trials_of

from .candidates import candidates_frame, damaged_of
from .study_stages import confirmation_name


def rebuild_study(name: str, store: Store) -> list[str]:
    """Rebuild the suites of a study's trials, and its report.

    Returns one line for each trial that is left out because its record is damaged.

    Raises:
        ValueError: no record of it in this store.
    """
    damaged = damaged_of(_content(name, store), store)
    for suite in (name, confirmation_name(name)):
        if store.suite(suite).has_plan():
            damaged += [line for line in rebuild(suite, store) if line not in damaged]
    report_study(name, store)
    return damaged


def trials_of_study(name: str, store: Store) -> list[str]:
    """Ids of a study's trials, including those of its confirmation, each once.

    Raises:
        ValueError: no record of it in this store.
    """
    content = _content(name, store)
    trials = [*content["full"].values()]
    trials += [trial_id for c in content["candidates"] for trial_id in c["trials"].values()]
    if store.suite(confirmation_name(name)).has_plan():
        trials += trials_of(confirmation_name(name), store)
    return list(dict.fromkeys(trials))


def report_study(name: str, store: Store) -> None:
    """Write a study's page, figures and answer from its tables.

    Raises:
        ValueError: no record of it in this store.
    """
    from harness.report.comparison.compare import compare
    from harness.report.study.study_page import write_study

    content = _content(name, store)
    fresh = store.suite(confirmation_name(name))
    tables: list[Any] = []
    if content["finalists"] and fresh.has_table("trials"):
        names = ("trials", "curves", "truncations")
        frames = [fresh.table(table).to_pandas() for table in names]
        tables = [compare(frames[0]), *frames]
    write_study(store.suite(name), content, candidates_frame(content, store), *tables)


def newest_comparison(name: str, store: Store) -> str:
    """The suite that holds a study's answer: the confirmation, or the search until there is one."""
    fresh = confirmation_name(name)
    return fresh if store.suite(fresh).has_table("trials") else name


def _content(name: str, store: Store) -> dict[str, Any]:
    records = store.suite(name)
    if not records.has_study():
        raise ValueError(f"no record of study {name} in {store.address}: harness tune makes it")
    return records.study()
