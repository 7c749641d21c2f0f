"""The few calls to MLflow: where its files are, one client, whole batches.

MLflow is imported when the first client is made, since that takes seconds.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.records.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient

_BATCH, _PARAMS = 1000, 100  # entries of one call, and parameters among them: MLflow's limits
_made: Counter[Path] = Counter()  # how often this process has begun that database


def tracking_uri(store: Store) -> str:
    """The MLflow database of this store, as `mlflow server --backend-store-uri` takes it."""
    return f"sqlite:///{(store.root / 'mlflow.db').absolute()}"


def artifact_root(store: Store) -> Path:
    """The folder of MLflow's artifacts of this store."""
    return (store.root / "mlartifacts").absolute()


def connect(store: Store) -> MlflowClient:
    """A client of this store's database, which is made if it is missing. Sends nothing home."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):  # the making of the tables is not news
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=_uri_of_now(store))


def _uri_of_now(store: Store) -> str:
    """The tracking URI, spelled anew each time this process finds the database gone.

    MLflow keeps an open database per URI for the life of the process; after the file was deleted
    it would go on writing to the deleted one, and nobody would ever see it.
    """
    database = (store.root / "mlflow.db").absolute()
    if not database.exists():
        _made[database] += 1
    return f"sqlite:///{database.parent}/{'./' * (_made[database] - 1)}{database.name}"


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
