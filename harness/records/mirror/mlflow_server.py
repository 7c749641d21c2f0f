"""The mirror on an MLflow server, whose address `HARNESS_MLFLOW` gives.

Credentials come from the environment as MLflow expects them. Several stores may show suites of one
name there: an experiment belongs to the store whose id it is tagged with.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from harness.records.mirror import mlflow_io
from harness.records.store import Store
from harness.tools.inputs import cut
from harness.tools.notes import waiting
from harness.tools.redact import redacted

if TYPE_CHECKING:
    from mlflow import MlflowClient

ID = "mirror.json"  # of the store, with its id
_STORE, _PLACE = "harness.store", "harness.place"
WAIT = 60.0  # seconds for a server that is away, as while it starts again
AT_A_TIME = 8  # runs that are added: it has several workers, and most of the time is on the way
_AWAY = {502, 503, 504}  # what a proxy answers for it
# Of one request; with MLflow's own retries it would be ten minutes.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
# Else it prints the address of every run to standard output, in the midst of what we say there.
_SILENCE = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
_CREDENTIALS = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"


@contextlib.contextmanager
def connected(address: str) -> Iterator[MlflowClient]:
    """A client of the server.

    Raises:
        OSError: it cannot be reached, does not accept our credentials, or fails; one line.
    """
    for name, value in (_PATIENCE | _SILENCE).items():
        os.environ.setdefault(name, value)
    mlflow_io.quiet()
    from mlflow import MlflowClient

    try:
        _await(address)
        yield MlflowClient(tracking_uri=address, registry_uri=address)
    except _failures() as error:
        raise OSError(f"the MLflow server {redacted(address)}: {_reason(error)}") from None


def _await(address: str) -> None:
    """Return once the server answers, or after a while in any case: the next request tells why."""
    import requests  # installed with MLflow

    give_up = time.monotonic() + WAIT
    with waiting(f"the MLflow server {redacted(address)} does not answer"):
        while time.monotonic() < give_up:
            with contextlib.suppress(requests.exceptions.RequestException):
                if requests.get(f"{address}/health", timeout=5).status_code not in _AWAY:
                    return
            time.sleep(1.0)


def experiment(client: MlflowClient, store: Store, name: str) -> str:
    """The suite's experiment, created if it is missing: under its own name, or with the store's id
    if an experiment of that name is not of this store."""
    own = _id(store)
    for title in (name, f"{name} {own[:8]}"):
        found = client.get_experiment_by_name(title)
        if found is None:
            tags = {_STORE: own, _PLACE: redacted(f"{store.absolute()}")}
            return client.create_experiment(title, tags=tags)
        if found.tags.get(_STORE) == own:
            if found.lifecycle_stage == "deleted":
                client.restore_experiment(found.experiment_id)
            return found.experiment_id
    raise OSError(f"the experiments {name} and {title} are of other stores")


def _id(store: Store) -> str:
    """What tells this store from all others, wherever it is moved to; made once."""
    store.storage.create(ID, json.dumps({"id": secrets.token_hex(16)}).encode())
    stored = store.storage.read(ID)
    try:
        found = json.loads(stored.data)["id"] if stored else None
    except (ValueError, TypeError, KeyError):
        found = None
    if not isinstance(found, str):
        raise ValueError(f"{store.storage.place(ID)} holds no id: remove it")
    return found


def _failures() -> tuple[type[Exception], ...]:
    """What MLflow raises, and the libraries with which it sends artifacts."""
    from mlflow.exceptions import MlflowException

    found: tuple[type[Exception], ...] = (MlflowException, OSError, ImportError)
    with contextlib.suppress(ImportError):  # for artifacts that go to S3 directly
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        found += (Boto3Error, BotoCoreError, ClientError)
    return found


def _reason(error: BaseException) -> str:
    """In one line and without a secret: what the server or the system said."""
    status = getattr(error, "get_http_status_code", lambda: None)()
    if "error code 401" in str(error) or status == 401:
        return f"it does not accept our credentials ({_CREDENTIALS})"
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
        inner = inner.__cause__ or inner.__context__
    return cut(redacted(str(error)))


__all__ = ["ID", "connected", "experiment"]
