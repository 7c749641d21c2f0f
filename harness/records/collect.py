"""Collect a suite's tables, which report and mirror read, from trial folders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from harness.records import schemas
from harness.records.checksums import KEY, RESULT
from harness.records.states import Damaged
from harness.records.store import Store, TrialDir


@dataclass(frozen=True)
class _Ended:
    """What a suite takes from one ended trial."""

    record: dict[str, Any]
    spec: dict[str, Any]
    tables: dict[str, pa.Table]


@dataclass(frozen=True)
class Gathered:
    """Tables over several trials, `trials` last, and one line for each damaged trial."""

    tables: dict[str, pa.Table]
    damaged: list[str]


def collect(store: Store, suite_name: str, plan: Mapping[str, Any]) -> list[str]:
    """Write a suite's tables, `trials`, `curves`, `truncations` and `spectra`, from ended trials.

    Returns one line for each trial whose record is damaged: which file, why, and what to do.
    Raises ValueError as `gather` does.
    """
    gathered = gather(store, plan)
    for entry in plan["trials"]:
        store.trial(entry["trial_id"]).tidy()
    records = store.suite(suite_name)
    records.sweep()
    # `trials` last: whoever finds it finds the others at least as new.
    for name, table in gathered.tables.items():
        records.write_table(name, table)
    return gathered.damaged


def gather(
    store: Store, plan: Mapping[str, Any], names: Sequence[str] = schemas.TRIAL_TABLES
) -> Gathered:
    """A suite's tables from ended trials: those of `names`, and `trials`. Writes nothing.

    `plan["trials"]` lists `{trial_id, label, role, matches, comparison, task, seed}`, one entry per
    row of the comparison: a trial used by two rows has two rows in `trials` and one copy of its
    curves. Old plans lack `comparison`; it is null then. Trials that have not ended are left out. A
    damaged trial has `status` damaged and no numbers.

    Raises a one-line ValueError if trials of one row saw different data.
    """
    entries = list(plan["trials"])
    ended, lost = _read_all(store, entries, names)
    _refuse_mixed_data([entry for entry in entries if entry["trial_id"] in ended], ended)
    return _tables(entries, ended, lost, names)


def gather_all(store: Store, names: Sequence[str] = schemas.TRIAL_TABLES) -> Gathered:
    """Like `gather`, for all ended trials of the store, each once, without labels."""
    entries = [{"trial_id": trial_id} for trial_id in store.ended_trials()]
    return _tables(entries, *_read_all(store, entries, names), names)


def _read_all(
    store: Store, entries: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> tuple[dict[str, _Ended], dict[str, str]]:
    """The ended trials by id, and for damaged ones the reason and what to do."""
    ended: dict[str, _Ended] = {}
    lost: dict[str, str] = {}
    for trial_id in dict.fromkeys(entry["trial_id"] for entry in entries):
        try:
            found = _read(store, trial_id, names)
        except Damaged as error:
            lost[trial_id] = str(error)
            continue
        if found is not None:
            ended[trial_id] = found
    return ended, lost


def _tables(
    entries: Sequence[Mapping[str, Any]],
    ended: Mapping[str, _Ended],
    lost: Mapping[str, str],
    names: Sequence[str],
) -> Gathered:
    whole = [entry for entry in entries if entry["trial_id"] in ended]
    specs = {schemas.SPECS_KEY: schemas.canonical({key: one.spec for key, one in ended.items()})}
    tables = {name: _concat(name, [one.tables[name] for one in ended.values()]) for name in names}
    rows = [
        (ended[e["trial_id"]].record, ended[e["trial_id"]].spec, _roles(e))
        if e["trial_id"] in ended
        else (_stand_in(e, whole, ended), {}, _roles(e))
        for e in entries
        if e["trial_id"] in ended or e["trial_id"] in lost
    ]
    tables["trials"] = schemas.trials_table(rows)
    stamped = {name: schemas.stamp(table, name, specs) for name, table in tables.items()}
    return Gathered(stamped, list(lost.values()))


def _read(store: Store, trial_id: str, names: Sequence[str]) -> _Ended | None:
    """The record, spec and tables of an ended trial; None before its end. Raises Damaged."""
    trial = store.trial(trial_id)
    result = trial.result()
    if result is None:
        if (lost := trial.lost_end()) is not None:
            raise lost
        return None
    spec = trial.spec()
    if spec is None:
        raise trial.damaged("spec.json is missing")
    try:
        schemas.make_table("trials", [result["record"]])
    except ValueError as error:
        raise trial.damaged(f"{RESULT}: {error}") from None
    if "spec.json" not in result.get(KEY, {}):
        _refuse_other_spec(trial, spec)
    return _Ended(result["record"], spec, {name: trial.table(name) for name in names})


def _refuse_other_spec(trial: TrialDir, spec: Mapping[str, Any]) -> None:
    """Raise Damaged unless a spec without a checksum hashes to the trial's id.

    Specs of newer harnesses may have unknown fields, so their id cannot be computed; those have
    checksums.
    """
    from harness.suite.specs import TrialSpec

    try:
        identity = TrialSpec.model_validate_json(schemas.canonical(spec)).trial_id
    except ValueError:  # pydantic's own is one
        raise trial.damaged("spec.json is no spec of this version, and has no checksum") from None
    if identity != trial.trial_id:
        raise trial.damaged(f"spec.json is that of trial {identity}")


def _stand_in(
    entry: Mapping[str, Any], whole: Iterable[Mapping[str, Any]], ended: Mapping[str, _Ended]
) -> dict[str, Any]:
    """A record for a damaged trial, from its plan, so that its row shows it."""
    place = entry.get("comparison"), entry.get("task")
    beside = (e["trial_id"] for e in whole if (e.get("comparison"), e.get("task")) == place)
    known = (ended[trial_id].record.get("model") for trial_id in beside) if place[1] else ()
    model = next(iter(known), None)
    return {
        "trial_id": entry["trial_id"],
        "task": entry.get("task", "unknown"),
        "model": model or "unknown",
        "arm": entry.get("role", "unknown"),
        "seed": entry.get("seed"),
        "status": "damaged",
    }


def _roles(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: entry.get(name) for name in schemas.ROLE_SCHEMA.names}


def _concat(name: str, tables: Sequence[pa.Table]) -> pa.Table:
    schema = schemas.SCHEMAS[name]
    # Only the schema's columns: trials of a newer harness may have more.
    plain = [table.select(schema.names).replace_schema_metadata(None) for table in tables]
    return pa.concat_tables(plain) if plain else schema.empty_table()


def _refuse_mixed_data(entries: Iterable[Mapping[str, Any]], ended: Mapping[str, _Ended]) -> None:
    """Raise ValueError if a row, or trials with the same task spec, mix data fingerprints."""
    seen: dict[tuple[str, ...], tuple[str, str]] = {}
    for entry in entries:
        trial_id = entry["trial_id"]
        one = ended[trial_id]
        fingerprint = one.record.get("data_fingerprint")
        if fingerprint is None:  # it failed before it read its data
            continue
        task = str(one.record.get("task"))
        groups = [
            ("row", task, str(entry.get("label"))),
            ("task", schemas.canonical(one.spec.get("task"))),
        ]
        for group in groups:
            other, known = seen.setdefault(group, (trial_id, fingerprint))
            if known != fingerprint:
                raise ValueError(
                    f"task {task}: trials {other} and {trial_id} saw different data "
                    f"(fingerprints {known[:12]} and {fingerprint[:12]}); "
                    "they cannot be compared"
                )
