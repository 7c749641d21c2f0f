"""The MLflow view of a suite: rebuilt from the suite's parquet tables, adding what is missing.

One experiment per suite, a parent run per launch, a child run per trial. Nothing is read back
from MLflow but which runs it already has.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.records import mlflow_io, schemas
from harness.records.files import read_json, write_json
from harness.records.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient

POINTS = 200  # of each curve; the parquet table has them all
_LONGEST = 6000  # characters of a parameter, MLflow's limit
_TRIAL, _CONTENT, _LAUNCH = "harness.trial_id", "harness.content", "harness.launch"
_PARENT, _NAME = "mlflow.parentRunId", "mlflow.runName"
_REPORT = ("*.parquet", "*.json", "comparison.*", "index.html", "figures/*")


@dataclass(frozen=True)
class _Trial:
    """One child run: tags, parameters and metrics as (name, value, step)."""

    trial_id: str
    content: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: list[tuple[str, float, int]]
    started: int  # milliseconds since the epoch
    ended: int
    status: str


def mirror(store: Store, suite_name: str, launch: Mapping[str, Any] | None = None) -> None:
    """Bring the suite's experiment up to date with STORE/suites/<suite>/*.parquet.

    `launch` describes a launch (`id` names it; other scalars become parameters of its run) and is
    kept in the suite's `launches.json`, so that a rebuilt view has it again. Without one, trials
    that no launch accounts for hang under a parent run called `records`. Calling it again adds
    nothing. Raises ValueError if the suite has no collected tables.
    """
    folder = store.suite(suite_name)
    if not (folder / "trials.parquet").exists():
        raise ValueError(f"the store {store.root} has no record of the suite {suite_name}")
    # Two drivers on one store would each add what both find missing.
    with store.lock("mlflow", "the MLflow mirror", wait=True):
        trials = _trials(store, folder)
        launches = _launches(folder, launch, list(trials))
        client = mlflow_io.connect(store)
        view = _View(client, mlflow_io.experiment(client, store, suite_name))
        parent_of = {one: entry for entry in launches for one in entry["trials"]}
        for entry in launches:
            view.add_parent(entry)
        for trial in trials.values():
            view.add_child(trial, parent_of[trial.trial_id]["id"])
        view.add_artifacts(launches[-1]["id"], folder)


class _View:
    """One experiment's runs, as far as we made them."""

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
            self.experiment_id, tags={_LAUNCH: name, _NAME: name}, run_name=name
        )
        mlflow_io.log(self.client, run.info.run_id, _texts(facts), [], {})
        self.client.set_terminated(run.info.run_id)
        self.parents[name] = run

    def add_child(self, trial: _Trial, launch: str) -> None:
        run = self.children.get(trial.trial_id)
        # The content's tag comes with the last batch: a run without it was cut short.
        if run is not None and run.data.tags.get(_CONTENT) != trial.content:
            self.client.delete_run(run.info.run_id)
            run = None
        if run is not None:
            changed = {k: v for k, v in trial.tags.items() if run.data.tags.get(k) != v}
            if changed:  # the suite calls it otherwise now
                mlflow_io.log(self.client, run.info.run_id, {}, [], changed)
            return
        parent = self.parents[launch].info.run_id
        run = self.client.create_run(
            self.experiment_id,
            start_time=trial.started,
            tags={_TRIAL: trial.trial_id, _PARENT: parent},
            run_name=trial.tags[_NAME],
        )
        metrics = [(name, value, trial.ended, step) for name, value, step in trial.metrics]
        tags = {**trial.tags, _CONTENT: trial.content}
        mlflow_io.log(self.client, run.info.run_id, trial.params, metrics, tags)
        self.client.set_terminated(run.info.run_id, trial.status, trial.ended)

    def add_artifacts(self, launch: str, folder: Path) -> None:
        """Copy the tables and the report to the launch's run, if they are not those it has."""
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


def _trials(store: Store, folder: Path) -> dict[str, _Trial]:
    """The suite's trials by id, in the order of its table."""
    table = schemas.read_table(folder / "trials.parquet", "trials")
    curves = _thinned(folder)
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        if row["status"] != "damaged":  # nothing is known of it
            rows.setdefault(row["trial_id"], []).append(row)
    return {key: _trial(store, roles, curves.get(key, [])) for key, roles in rows.items()}


def _trial(
    store: Store, roles: Sequence[Mapping[str, Any]], curves: list[tuple[str, float, int]]
) -> _Trial:
    record = roles[0]
    labels = sorted({str(row["label"]) for row in roles})
    tags = {
        _NAME: f"{record['task']} {', '.join(labels)} seed {record['seed']}",
        "label": ", ".join(labels),
        "role": ", ".join(sorted({str(row["role"]) for row in roles})),
    }
    fixed = {name: record[name] for name in schemas.SCHEMAS["trials"].names}
    for name, value in fixed.items():
        if isinstance(value, str):
            tags.setdefault(name, value)
    step = int(record["selected_step"] or 0)
    summary = [
        (name, float(value), step)
        for name, value in fixed.items()
        if isinstance(value, int | float) and not math.isnan(value)
    ]
    params = {
        name.removeprefix("spec."): value
        for name, value in record.items()
        if name.startswith("spec.") and value is not None
    }
    params["state_dims"] = record["state_dims"]
    content = hashlib.sha256(f"{fixed!r}{record['spec_json']}{curves!r}".encode()).hexdigest()
    folder = store.trial(record["trial_id"]).path
    return _Trial(
        trial_id=record["trial_id"],
        content=content,
        tags=tags,
        params=_texts(params),
        metrics=summary + curves,
        started=_milliseconds(folder / "manifest.json"),
        ended=_milliseconds(folder / "result.json"),
        status="FAILED" if record["status"] == "failed" else "FINISHED",
    )


def _thinned(folder: Path) -> dict[str, list[tuple[str, float, int]]]:
    """Curves by trial, as (split/metric, value, step), at most POINTS of each, ends included."""
    table = schemas.read_table(folder / "curves.parquet", "curves")
    names = ("trial_id", "split", "metric", "value", "step")
    curves: dict[tuple[str, str], list[tuple[str, float, int]]] = {}
    for trial_id, split, metric, value, step in zip(
        *(table[name].to_pylist() for name in names), strict=True
    ):
        if value is not None:
            name = f"{split}/{metric}"
            curves.setdefault((trial_id, name), []).append((name, value, step))
    result: dict[str, list[tuple[str, float, int]]] = {}
    for (trial_id, _), points in curves.items():
        kept = np.unique(np.linspace(0, len(points) - 1, POINTS).round().astype(int))
        result.setdefault(trial_id, []).extend(points[i] for i in kept)
    return result


def _launches(
    folder: Path, launch: Mapping[str, Any] | None, trials: Sequence[str]
) -> list[dict[str, Any]]:
    """The suite's launches, oldest first, each with the trials that it added to the record."""
    path = folder / "launches.json"
    launches: list[dict[str, Any]] = read_json(path) if path.exists() else []
    name = str(launch["id"]) if launch else "records"
    assigned = {one for entry in launches for one in entry["trials"]}
    fresh = [one for one in trials if one not in assigned]
    known = next((entry for entry in launches if entry["id"] == name), None)
    if known is None and (launch or fresh or not launches):
        known = {**(launch or {}), "id": name, "trials": []}
        launches.append(known)
    elif known is None:
        return launches
    if fresh or not known["trials"]:
        known["trials"] = known["trials"] + fresh
        write_json(path, launches)
    return launches


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: (value if isinstance(value, str) else schemas.canonical(value))[:_LONGEST]
        for name, value in values.items()
    }


def _milliseconds(path: Path) -> int:
    return int(path.stat().st_mtime * 1000) if path.exists() else 0
