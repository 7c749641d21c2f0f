"""The MLflow view of a suite: built from the suite's parquet tables, adding what is missing.

One experiment per suite, a parent run per launch, a child run per trial. The only thing read back
from MLflow is which runs it has.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.records import schemas
from harness.records.mirror import mlflow_file, mlflow_io
from harness.records.mirror.mirror_content import NAME, Content, MirroredTrial, texts
from harness.records.store import Store
from harness.tools.inputs import cut, os_reason

if TYPE_CHECKING:
    from mlflow import MlflowClient

_TRIAL, _CONTENT, _LAUNCH = "harness.trial_id", "harness.content", "harness.launch"
_PARENT = "mlflow.parentRunId"
_REPORT = ("*.parquet", "*.json", "comparison.*", "index.html", "figures/*")


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
    is kept beside it, and the line returned says so.

    Raises:
        ValueError: the suite has no collected tables.
        OSError, sqlite3.Error, MlflowException, ...: see `mlflow_io.failures`.
    """
    if not store.suite(suite_name).has_table("trials"):
        raise ValueError(f"the store {store.root} has no record of the suite {suite_name}")
    # Without a lock, two drivers on one store would both add what is missing.
    with store.lock("mlflow", "the MLflow mirror", wait=True):
        file = mlflow_io.database(store)
        fault = mlflow_io.fault(file) if os.path.lexists(file) else "it is missing"
        content = Content.of(store, suite_name, launch)
        if fault is None:
            with mlflow_io.connected(file) as client:
                _show(content, client, store)
            return None
        with mlflow_file.aside(file.parent) as new:
            with mlflow_io.connected(new) as client:
                for one in (*_others(store, suite_name), content):
                    _show(one, client, store)
            kept = mlflow_file.put(new, file)
    return (
        f"{file} could not be opened ({fault}): kept as {kept.name} and rebuilt" if kept else None
    )


def _others(store: Store, suite_name: str) -> Iterator[Content]:
    """The other suites with readable tables; their own `harness report` tells of the rest."""
    for path in sorted(store.root.glob("suites/*/trials.parquet")):
        if path.parent.name != suite_name:
            with contextlib.suppress(ValueError, OSError):
                yield Content.of(store, path.parent.name)


def _show(content: Content, client: MlflowClient, store: Store) -> None:
    view = _View(client, mlflow_io.experiment(client, store, content.name))
    parent_of = {one: entry for entry in content.launches for one in entry["trials"]}
    for entry in content.launches:
        view.add_parent(entry)
    for trial in content.trials.values():
        view.add_child(trial, parent_of[trial.trial_id]["id"])
    view.add_artifacts(content.launches[-1]["id"], content.folder)


class _View:
    """The runs of one experiment that the harness created."""

    def __init__(self, client: MlflowClient, experiment_id: str) -> None:
        self.client = client
        self.experiment_id = experiment_id
        self.parents: dict[str, Any] = {}
        self.children: dict[str, Any] = {}
        for run in mlflow_io.all_runs(client, experiment_id):
            if _LAUNCH in run.data.tags:
                self.parents[run.data.tags[_LAUNCH]] = run
            elif _TRIAL in run.data.tags:
                self.children[run.data.tags[_TRIAL]] = run

    def add_parent(self, launch: Mapping[str, Any]) -> None:
        name = launch["id"]
        if name in self.parents:
            return
        facts = schemas.flatten({k: v for k, v in launch.items() if k not in ("id", "trials")})
        run = self.client.create_run(
            self.experiment_id, tags={_LAUNCH: name, NAME: name}, run_name=name
        )
        mlflow_io.log(self.client, run.info.run_id, texts(facts), [], {})
        self.client.set_terminated(run.info.run_id)
        self.parents[name] = run

    def add_child(self, trial: MirroredTrial, launch: str) -> None:
        run = self.children.get(trial.trial_id)
        # The last batch sets the content's tag: a run without it is incomplete.
        if run is not None and run.data.tags.get(_CONTENT) != trial.content:
            self.client.delete_run(run.info.run_id)
            run = None
        if run is not None:
            changed = {k: v for k, v in trial.tags.items() if run.data.tags.get(k) != v}
            if changed:  # the suite has renamed it
                mlflow_io.log(self.client, run.info.run_id, {}, [], changed)
            return
        parent = self.parents[launch].info.run_id
        run = self.client.create_run(
            self.experiment_id,
            start_time=trial.started,
            tags={_TRIAL: trial.trial_id, _PARENT: parent},
            run_name=trial.tags[NAME],
        )
        metrics = [(name, value, trial.ended, step) for name, value, step in trial.metrics]
        tags = {**trial.tags, _CONTENT: trial.content}
        mlflow_io.log(self.client, run.info.run_id, trial.params, metrics, tags)
        self.client.set_terminated(run.info.run_id, trial.status, trial.ended)

    def add_artifacts(self, launch: str, folder: Path) -> None:
        """Copy the tables and the report to the launch's run if they have changed."""
        files = sorted({path for glob in _REPORT for path in folder.glob(glob) if path.is_file()})
        digest = hashlib.sha256()
        for path in files:
            digest.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes())
        run = self.parents[launch]
        if run.data.tags.get(_CONTENT) == digest.hexdigest():
            return
        for path in files:
            inside = path.parent.relative_to(folder).as_posix()
            self.client.log_artifact(run.info.run_id, str(path), None if inside == "." else inside)
        self.client.set_tag(run.info.run_id, _CONTENT, digest.hexdigest())


def _reason(error: BaseException) -> str:
    """The message of the system or SQLite inside the wrappers of SQLAlchemy and MLflow."""
    inner: BaseException | None = error
    while inner is not None and not isinstance(inner, OSError | sqlite3.Error):
        inner = inner.__cause__ or inner.__context__
    return os_reason(inner) if isinstance(inner, OSError) else cut(str(inner or error))


def _say(line: str) -> None:
    print(line, file=sys.stderr)
