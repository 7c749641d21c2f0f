"""The content of a suite's MLflow view: its trials and launches, read from its tables."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.records import schemas
from harness.records.files import json_bytes
from harness.records.store import Store, SuiteRecords
from harness.tools.inputs import LARGEST_JSON, cut, os_reason, parse_json
from harness.tools.notes import say

POINTS = 200  # per curve; the parquet table has all
_LONGEST = 6000  # characters of a parameter, MLflow's limit
NAME = "mlflow.runName"
_LAUNCHES = "launches.json"


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
    records: SuiteRecords
    trials: dict[str, MirroredTrial]
    launches: list[dict[str, Any]]

    @classmethod
    def of(cls, store: Store, name: str, launch: Mapping[str, Any] | None = None) -> Content:
        """The suite's content, with `launch` added to its launches."""
        records = store.suite(name)
        trials = _trials(store, records)
        return cls(name, records, trials, _launches(records, launch, list(trials)))


def _trials(store: Store, records: SuiteRecords) -> dict[str, MirroredTrial]:
    """The suite's trials by id, in the order of its table."""
    table = records.table("trials")
    curves = _thinned(records)
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
    trial = store.trial(record["trial_id"])
    return MirroredTrial(
        trial_id=record["trial_id"],
        content=content,
        tags=tags,
        params=texts(params),
        metrics=summary + curves,
        started=_milliseconds(trial.written_at("manifest.json")),
        ended=_milliseconds(trial.written_at("result.json")),
        status="FAILED" if record["status"] == "failed" else "FINISHED",
    )


def _thinned(records: SuiteRecords) -> dict[str, list[tuple[str, float, int]]]:
    """Curves by trial as (split/metric, value, step), at most POINTS each, including both ends."""
    table = records.table("curves")
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
    records: SuiteRecords, launch: Mapping[str, Any] | None, trials: Sequence[str]
) -> list[dict[str, Any]]:
    """The suite's launches, oldest first, each with the trials that it added."""
    launches = _stored_launches(records)
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
        records.write(_LAUNCHES, json_bytes(launches))
    return launches


def texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: (value if isinstance(value, str) else schemas.canonical(value))[:_LONGEST]
        for name, value in values.items()
    }


def _milliseconds(seconds: float | None) -> int:
    return int((seconds or 0) * 1000)


def _stored_launches(records: SuiteRecords) -> list[dict[str, Any]]:
    """The launches so far. An unreadable file is kept under another name, with a message; launches
    matter only to the view, so no trial is lost."""
    try:
        launches = parse_json(records.read(_LAUNCHES, LARGEST_JSON), records.place(_LAUNCHES))
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
    kept = records.set_aside(_LAUNCHES)
    place = records.place(_LAUNCHES)
    say(f"the launches in {place} cannot be read ({cut(said)}); they are kept as {kept}")
    return []
