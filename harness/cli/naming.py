"""Names on the command line: stores, suites and studies, in files or in records."""

from __future__ import annotations

import contextlib
from typing import Any


def open_store(path: str | None, create: bool) -> Any:
    """The store at a path, by default HARNESS_STORE or results/local; see `Store.open`."""
    from harness.records.store import Store

    return Store.open(path, create=create)


def suite_of(name: str, settings: list[str] | None) -> Any:
    """The suite of a name or file, with settings applied. Raises ValueError as `load` does."""
    from harness.suite import load, override

    return override(load(name), settings or [])


def suite_or_study(name: str) -> tuple[Any, bool]:
    """The suite or study of a name, and whether it is a study."""
    from harness.suite import Suite
    from harness.suite.load import find
    from harness.tune import Study

    found = find(name, (Suite, Study), "suite or study")
    return found, isinstance(found, Study)


def planned(name: str, store: str | None) -> tuple[Any, bool]:
    """The suite or study of a name, or the suite that `run --name` recorded under it."""
    from harness.planning.plan_file import stored_suite

    try:
        return suite_or_study(name)
    except ValueError:
        with contextlib.suppress(ValueError, OSError):
            recorded = stored_suite(open_store(store, create=False), name)
            if recorded is not None:
                return recorded, False
        raise


def recorded_name(name: str, store: Any) -> tuple[str, bool]:
    """The name under which a suite or study is recorded, and whether it is a study.

    Records do not need the file they came from, which may be gone or broken: a name that the store
    knows is used as it is.
    """
    kind = store.kind_of(name)
    if kind is not None:
        return name, kind == "study"
    try:
        found, is_study = suite_or_study(name)
        return found.name, is_study
    except ValueError as error:
        if store.has_lost(name):
            raise ValueError(
                f"{store.suite(name).place()} has lost its plan.json: run {name} again, which "
                "writes it and keeps every trial that has ended"
            ) from None
        known = store.suites()
        if not known:
            raise
        listed = ", ".join(known[:5]) + (", ..." if len(known) > 5 else "")
        raise ValueError(f"{error}; the store has records of {listed}") from None


__all__ = ["open_store", "planned", "recorded_name", "suite_of", "suite_or_study"]
