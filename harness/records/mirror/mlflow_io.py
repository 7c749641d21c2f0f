"""All calls to MLflow: where its files are, one client, batched logging.

MLflow is imported with the first client, since that takes seconds.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.records.files import sync
from harness.records.mirror import mlflow_file
from harness.records.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient

_BATCH, _PARAMS = 1000, 100  # entries and parameters per call: MLflow's limits
_PLAIN = re.compile(r"[A-Za-z0-9_./-]+")  # paths that need no quoting in a URL
_opened = itertools.count()


def database(store: Store) -> Path:
    """The database file of the store's mirror."""
    return store.root.absolute() / mlflow_file.NAME


def artifact_root(store: Store) -> Path:
    """The folder of the store's MLflow artifacts."""
    return (store.root / "mlartifacts").absolute()


def server_arguments() -> list[str]:
    """Arguments for `mlflow server` in the store's folder: paths that need no quoting."""
    return ["--backend-store-uri", f"sqlite:///{mlflow_file.NAME}",
            "--default-artifact-root", "mlartifacts"]  # fmt: skip


@contextlib.contextmanager
def connected(file: Path) -> Iterator[MlflowClient]:
    """A client of this database, which is created if it is missing. Telemetry is off."""
    quiet()
    from mlflow import MlflowClient

    with _plain(file.parent) as folder, _written_at_once(file):
        # MLflow caches state by a database's URL for the life of the process, so each connection
        # spells the URL differently.
        spelling = "./" * next(_opened)
        yield MlflowClient(tracking_uri=f"sqlite:///{folder}/{spelling}{file.name}")


@contextlib.contextmanager
def _written_at_once(file: Path) -> Iterator[None]:
    """Each call of MLflow's is several transactions, and a disk takes longer for one than MLflow
    itself. So the file is brought to the disk once, at the end: after a loss of power before that
    the mirror may have to be built anew, and nothing depends on it.

    Nor is a connection opened for each; those of MLflow's pool are closed before the file is, since
    no later client takes them up."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    opened: list[sqlite3.Connection] = []

    def hasten(connection: Any, _: object) -> None:
        if not isinstance(connection, sqlite3.Connection):
            return
        place = connection.execute("PRAGMA database_list").fetchone()[2]
        if place and os.path.exists(place) and os.path.samefile(place, file):  # and no study's
            connection.execute("PRAGMA synchronous = OFF")
            opened.append(connection)

    event.listen(Engine, "connect", hasten)
    try:
        yield
    finally:
        event.remove(Engine, "connect", hasten)
        for connection in opened:
            connection.close()
        with contextlib.suppress(FileNotFoundError):
            sync(file)


def fault(file: Path) -> str | None:
    """Why this MLflow cannot use an existing database; see `mlflow_file.fault`."""
    quiet()
    from mlflow.store.db.base_sql_model import Base
    from mlflow.store.db.utils import _get_latest_schema_revision
    from mlflow.store.tracking import sqlalchemy_store  # noqa: F401, it declares the tables

    return mlflow_file.fault(file, _get_latest_schema_revision(), set(Base.metadata.tables))


def failures() -> tuple[type[Exception], ...]:
    """What we, MLflow and its libraries raise for a database or record that cannot be used."""
    from alembic.util.exc import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return ValueError, OSError, sqlite3.Error, SQLAlchemyError, MlflowException, CommandError


def quiet() -> None:
    """Nothing of MLflow's own reaches the terminal, nor anybody else."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
    import mlflow  # noqa: F401, it sets its loggers up

    for name in ("mlflow", "alembic"):  # creating tables is no news, and errors are raised
        logging.getLogger(name).setLevel(logging.CRITICAL)


@contextlib.contextmanager
def _plain(folder: Path) -> Iterator[str]:
    """A path to the folder that works in MLflow's URLs.

    MLflow parses URLs before SQLAlchemy does and unquotes some parts, so no quoting suits both. The
    kernel's own name for an open folder needs none.

    Raises:
        OSError: the path needs such a name, but this system has none.
    """
    if _PLAIN.fullmatch(str(folder)):
        yield str(folder)
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        named = f"/proc/self/fd/{descriptor}"
        os.stat(named)
        yield named
    finally:
        os.close(descriptor)


def experiment(client: MlflowClient, store: Store, name: str) -> str:
    """The suite's experiment, created if it is missing."""
    place = artifact_root(store) / name
    found = client.get_experiment_by_name(name)
    if found is not None and found.artifact_location == place.as_uri():
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return found.experiment_id
    if found is not None:
        # The store has moved, and an experiment's location is fixed: start a new one.
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        client.rename_experiment(found.experiment_id, f"{name} (moved {found.experiment_id})")
        client.delete_experiment(found.experiment_id)
    # Artifacts of a deleted view: no run refers to them.
    shutil.rmtree(place, ignore_errors=True)
    return client.create_experiment(name, artifact_location=place.as_uri())


def all_runs(client: MlflowClient, experiment_id: str) -> Iterator[Any]:
    """The experiment's runs, without deleted ones."""
    token = None
    while True:
        page = client.search_runs([experiment_id], max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def log(
    client: MlflowClient,
    run_id: str,
    params: Mapping[str, str],
    metrics: Sequence[tuple[str, float, int, int]],
    tags: Mapping[str, str],
) -> None:
    """Write everything, in one call if MLflow's limits allow; the last call sets the tags."""
    from mlflow.entities import Metric, Param, RunTag

    entries = [Param(key, value) for key, value in params.items()]
    values = [Metric(*one) for one in metrics]
    labels = [RunTag(key, value) for key, value in tags.items()]
    first = _BATCH - min(len(entries), _PARAMS) - len(labels)
    while len(entries) > _PARAMS or len(values) > first:
        client.log_batch(run_id, params=entries[:_PARAMS], metrics=values[:first])
        entries, values = entries[_PARAMS:], values[first:]
    client.log_batch(run_id, params=entries, metrics=values, tags=labels)
