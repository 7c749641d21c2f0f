"""The few calls to MLflow: where its files are, one client, whole batches.

MLflow is imported when the first client is made, since that takes seconds.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.records.mirror import mlflow_file
from harness.records.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient

_BATCH, _PARAMS = 1000, 100  # entries of one call, and parameters among them: MLflow's limits
_PLAIN = re.compile(r"[A-Za-z0-9_./-]+")  # paths that mean in a URL what they say
_opened = itertools.count()


def database(store: Store) -> Path:
    """The file of the store's mirror."""
    return store.root.absolute() / mlflow_file.NAME


def artifact_root(store: Store) -> Path:
    """The folder of MLflow's artifacts of this store."""
    return (store.root / "mlartifacts").absolute()


def server_arguments() -> list[str]:
    """What `mlflow server` is called with in the store's folder: paths that need no quoting."""
    return ["--backend-store-uri", f"sqlite:///{mlflow_file.NAME}",
            "--default-artifact-root", "mlartifacts"]  # fmt: skip


@contextlib.contextmanager
def connected(file: Path) -> Iterator[MlflowClient]:
    """A client of this database, which is made if it is missing. Sends nothing home."""
    _quiet()
    from mlflow import MlflowClient

    with _plain(file.parent) as folder:
        # MLflow keeps what it knows of a database by its URL, for the life of the process: each
        # opening spells its own.
        spelling = "./" * next(_opened)
        yield MlflowClient(tracking_uri=f"sqlite:///{folder}/{spelling}{file.name}")


def fault(file: Path) -> str | None:
    """Why this MLflow cannot go on with an existing database; see `mlflow_file.fault`."""
    _quiet()
    from mlflow.store.db.base_sql_model import Base
    from mlflow.store.db.utils import _get_latest_schema_revision
    from mlflow.store.tracking import sqlalchemy_store  # noqa: F401, it declares the tables

    return mlflow_file.fault(file, _get_latest_schema_revision(), set(Base.metadata.tables))


def failures() -> tuple[type[Exception], ...]:
    """What is raised where a database or a file of records is not to be had as it should be, by us
    and MLflow and the libraries below it."""
    import sqlite3

    from alembic.util.exc import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return ValueError, OSError, sqlite3.Error, SQLAlchemyError, MlflowException, CommandError


def _quiet() -> None:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
    # No connection outlives its transaction, nor the file that it was made to.
    os.environ.setdefault("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
    import mlflow  # noqa: F401, it sets its loggers up

    for name in ("mlflow", "alembic"):  # the making of tables is no news, and faults are raised
        logging.getLogger(name).setLevel(logging.CRITICAL)


@contextlib.contextmanager
def _plain(folder: Path) -> Iterator[str]:
    """A path to the folder that can stand in MLflow's URLs.

    MLflow takes apart what SQLAlchemy gets, and unquotes here and there: no quoting is right for
    both. The kernel's own name for an open folder needs none.

    Raises:
        OSError: this system has no such names, and the folder's path needs one.
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
    """The suite's experiment, made if it is missing."""
    place = artifact_root(store) / name
    found = client.get_experiment_by_name(name)
    if found is not None and found.artifact_location == place.as_uri():
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return found.experiment_id
    if found is not None:
        # The store has moved, and an experiment's place is fixed: start a new view.
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        client.rename_experiment(found.experiment_id, f"{name} (moved {found.experiment_id})")
        client.delete_experiment(found.experiment_id)
    # Artifacts of a deleted view: no run refers to them any more.
    shutil.rmtree(place, ignore_errors=True)
    return client.create_experiment(name, artifact_location=place.as_uri())


def all_runs(client: MlflowClient, experiment_id: str) -> Iterator[Any]:
    """The experiment's runs, those deleted left out."""
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
    """Write it all in one call where MLflow's limits allow; the tags come with the last call."""
    from mlflow.entities import Metric, Param, RunTag

    entries = [Param(key, value) for key, value in params.items()]
    values = [Metric(*one) for one in metrics]
    labels = [RunTag(key, value) for key, value in tags.items()]
    first = _BATCH - min(len(entries), _PARAMS) - len(labels)
    while len(entries) > _PARAMS or len(values) > first:
        client.log_batch(run_id, params=entries[:_PARAMS], metrics=values[:first])
        entries, values = entries[_PARAMS:], values[first:]
    client.log_batch(run_id, params=entries, metrics=values, tags=labels)
