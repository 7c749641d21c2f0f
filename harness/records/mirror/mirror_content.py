"""The content of a suite's MLflow view: its trials and launches, read from its tables."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.records import schemas
from harness.records.files import read_json, unreadable_name, write_json
from harness.records.store import Store
from harness.tools.inputs import cut, os_reason
from harness.tools.notes import say

POINTS = 200  # per curve; the parquet table has all
_LONGEST = 6000  # characters of a parameter, MLflow's limit
NAME = "mlflow.runName"


@dataclass(frozen=True)
class MirroredTrial:
    """One child run: tags, parameters and metrics as (name, value, step)."""

    trial_id: str
    content: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: list[tuple[str, float, int]]
    started: int  # milliseconds since the epoch
    ended: int
    status: str


@dataclass(frozen=True)
class Content:
    """The content of a suite's view."""

    name: str
    folder: Path
    trials: dict[str, MirroredTrial]
    launches: list[dict[str, Any]]

    @classmethod
    def of(cls, store: Store, name: str, launch: Mapping[str, Any] | None = None) -> Content:
        """The suite's content, with `launch` added to its launches."""
        folder = store.suite(name).folder
        trials = _trials(store, folder)
        return cls(name, folder, trials, _launches(folder, launch, list(trials)))


def _trials(store: Store, folder: Path) -> dict[str, MirroredTrial]:
    """The suite's trials by id, in the order of its table."""
    table = schemas.read_table(folder / "trials.parquet", "trials")
    curves = _thinned(folder)
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        if row["status"] != "damaged":  # nothing is known about it
            rows.setdefault(row["trial_id"], []).append(row)
    return {key: _trial(store, roles, curves.get(key, [])) for key, roles in rows.items()}


def _trial(
    store: Store, roles: Sequence[Mapping[str, Any]], curves: list[tuple[str, float, int]]
) -> MirroredTrial:
    record = roles[0]
    labels = sorted({str(row["label"]) for row in roles})
    tags = {
        NAME: f"{record['task']} {', '.join(labels)} seed {record['seed']}",
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
    return MirroredTrial(
        trial_id=record["trial_id"],
        content=content,
        tags=tags,
        params=texts(params),
        metrics=summary + curves,
        started=_milliseconds(folder / "manifest.json"),
        ended=_milliseconds(folder / "result.json"),
        status="FAILED" if record["status"] == "failed" else "FINISHED",
    )


def _thinned(folder: Path) -> dict[str, list[tuple[str, float, int]]]:
    """Curves by trial as (split/metric, value, step), at most POINTS each, including both ends."""
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
    """The suite's launches, oldest first, each with the trials that it added."""
    path = folder / "launches.json"
    launches = _stored_launches(path)
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


def texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: (value if isinstance(value, str) else schemas.canonical(value))[:_LONGEST]
        for name, value in values.items()
    }


def _milliseconds(path: Path) -> int:
    return int(path.stat().st_mtime * 1000) if path.exists() else 0


def _stored_launches(path: Path) -> list[dict[str, Any]]:
    """The launches so far. An unreadable file is kept under another name, with a message; launches
    matter only to the view, so no trial is lost."""
    try:
        launches = read_json(path)
        noted = isinstance(launches, list) and all(
            isinstance(one["id"], str) and isinstance(one["trials"], list) for one in launches
        )
        if noted:
            return launches
        said = "it is not a list of launches"
    except FileNotFoundError:
        return []
    except OSError as error:
        said = os_reason(error)
    except (ValueError, TypeError, KeyError) as error:
        said = str(error)
    kept = unreadable_name(path)
    os.rename(path, kept)
    say(f"the launches in {path} cannot be read ({cut(said)}); they are kept as {kept.name}")
    return []
