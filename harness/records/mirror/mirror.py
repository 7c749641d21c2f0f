"""The MLflow view of a suite: built from the suite's parquet tables, adding what is missing.

One experiment per suite, a parent run per launch, a child run per trial. The only thing read back
from MLflow is which runs it has.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from harness import environment
from harness.records.mirror import mlflow_file, mlflow_io, mlflow_server
from harness.records.mirror.mirror_content import Content
from harness.records.mirror.view import View
from harness.records.store import Store
from harness.tools.inputs import cut, is_plain_name, os_reason

if TYPE_CHECKING:
    from mlflow import MlflowClient


def update(store: Store, suite_name: str, launch: Mapping[str, Any] | None = None) -> None:
    """Call `mirror`; a failure is a line on standard error, since nothing depends on the mirror."""
    kept = "could not be updated"
    try:
        said = mirror(store, suite_name, launch)
    except KeyboardInterrupt:
        _say(f"the MLflow mirror {kept}: interrupted; harness report {suite_name} makes it again")
        raise
    except mlflow_io.failures() as error:
        reason = _reason(error)
        said = f"the MLflow mirror {kept}: {reason}; harness report {suite_name} makes it again"
    if said:
        _say(said)


def mirror(store: Store, suite_name: str, launch: Mapping[str, Any] | None = None) -> str | None:
    """Update the suite's experiment from STORE/suites/<suite>/*.parquet.

    `launch` describes a launch (`id` names it; other scalars become parameters of its run). It is
    kept in the suite's `launches.json` for when the view is rebuilt. Trials without a launch get a
    parent run called `records`. Calling `mirror` again adds nothing. A missing database is created
    with all suites of the store. So is a replacement for one that MLflow cannot open; the old file
    is kept beside it, and the line returned says so. With `HARNESS_MLFLOW` the mirror is on that
    server instead; without it, a store in a bucket has none.

    Raises:
        ValueError: the suite has no collected tables.
        OSError, sqlite3.Error, MlflowException, ...: see `mlflow_io.failures`.
    """
    if not store.suite(suite_name).has_table("trials"):
        raise ValueError(f"the store {store.address} has no record of the suite {suite_name}")
    server = environment.MLFLOW.get()
    if server is not None:
        with store.lock("mlflow", "the MLflow mirror", wait=True):
            content = Content.of(store, suite_name, launch)
            with mlflow_server.connected(server) as client:
                experiment = mlflow_server.experiment(client, store, content.name)
                _show(content, View(client, experiment, at_a_time=mlflow_server.AT_A_TIME))
        return None
    if not store.is_folder:  # it has no place for a database
        return None
    # Without a claim, two drivers on one store would both add what is missing.
    with store.lock("mlflow", "the MLflow mirror", wait=True):
        file = mlflow_io.database(store)
        fault = mlflow_io.fault(file) if os.path.lexists(file) else "it is missing"
        content = Content.of(store, suite_name, launch)
        if fault is None:
            with mlflow_io.connected(file) as client:
                _show_here(content, client, store)
            return None
        with mlflow_file.aside(file.parent) as new:
            with mlflow_io.connected(new) as client:
                for one in (*_others(store, suite_name), content):
                    _show_here(one, client, store)
            kept = mlflow_file.put(new, file)
    return (
        f"{file} could not be opened ({fault}): kept as {kept.name} and rebuilt" if kept else None
    )


def _others(store: Store, suite_name: str) -> Iterator[Content]:
    """The other suites with readable tables; their own `harness report` tells of the rest."""
    for name in filter(is_plain_name, store.storage.children("suites/")):
        if name != suite_name and store.suite(name).has_table("trials"):
            with contextlib.suppress(ValueError, OSError):
                yield Content.of(store, name)


def _show_here(content: Content, client: MlflowClient, store: Store) -> None:
    _show(content, View(client, mlflow_io.experiment(client, store, content.name)))


def _show(content: Content, view: View) -> None:
    for entry in content.launches:
        view.add_parent(entry)
    parent_of = {one: entry["id"] for entry in content.launches for one in entry["trials"]}
    view.add_children(content.trials.values(), parent_of)
    view.add_artifacts(content.launches[-1]["id"], content.records)


def _reason(error: BaseException) -> str:
    """The message of the system or SQLite inside the wrappers of SQLAlchemy and MLflow."""
    inner: BaseException | None = error
    while inner is not None and not isinstance(inner, OSError | sqlite3.Error):
        inner = inner.__cause__ or inner.__context__
    return os_reason(inner) if isinstance(inner, OSError) else cut(str(inner or error))


def _say(line: str) -> None:
    print(line, file=sys.stderr)
