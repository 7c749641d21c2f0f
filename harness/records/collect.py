"""From trial folders to a suite's tables: what the report and the mirror read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from harness.records import schemas
from harness.records.store import Store


@dataclass(frozen=True)
class _Ended:
    """What a suite takes from one ended trial."""

    record: dict[str, Any]
    spec: dict[str, Any]
    tables: dict[str, pa.Table]


def collect(store: Store, suite_name: str, plan: Mapping[str, Any]) -> None:
    """Write STORE/suites/<suite>/{trials,curves,truncations,spectra}.parquet from ended trials.

    `plan["trials"]` lists `{trial_id, label, role, matches, comparison, task, seed}`, one entry per
    role: a trial with two roles has two rows in `trials` and one copy of its curves. Plans from
    before `comparison` leave it null. Trials that have not ended are left out. Raises ValueError
    (one line) for a damaged trial, naming its folder, and for trials of one row that saw different
    data.
    """
    entries = list(plan["trials"])
    ended: dict[str, _Ended] = {}
    for trial_id in dict.fromkeys(entry["trial_id"] for entry in entries):
        found = _read(store, trial_id)
        if found is not None:
            ended[trial_id] = found
    entries = [entry for entry in entries if entry["trial_id"] in ended]
    _refuse_mixed_data(entries, ended)

    folder = store.suite(suite_name)
    specs = {schemas.SPECS_KEY: schemas.canonical({key: one.spec for key, one in ended.items()})}
    for name in schemas.TRIAL_TABLES:
        table = _concat(name, [one.tables[name] for one in ended.values()])
        schemas.write_table(folder / f"{name}.parquet", schemas.stamp(table, name, specs))
    trials = schemas.trials_table(
        [(ended[e["trial_id"]].record, ended[e["trial_id"]].spec, _roles(e)) for e in entries]
    )
    # Last: who finds `trials` finds the others at least as new.
    schemas.write_table(folder / "trials.parquet", schemas.stamp(trials, "trials", specs))


def _read(store: Store, trial_id: str) -> _Ended | None:
    trial = store.trial(trial_id)
    try:
        result, spec = trial.result(), trial.spec()
        if result is None:
            return None
        if spec is None:
            raise ValueError("spec.json is missing")
        record = result.get("record")
        if not isinstance(record, dict) or record.get("trial_id") != trial_id:
            raise ValueError("result.json has no record of this trial")
        schemas.make_table("trials", [record])
        return _Ended(record, spec, {name: trial.table(name) for name in schemas.TRIAL_TABLES})
    except (ValueError, OSError) as error:
        reason = str(error).replace(f"{trial.path}/", "")
        if isinstance(error, FileNotFoundError):
            reason = f"{str(error.filename).rpartition('/')[2]} is missing"
        raise ValueError(
            f"the record in {trial.path} is damaged ({reason}); remove that folder to run it again"
        ) from None


def _roles(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: entry.get(name) for name in schemas.ROLE_SCHEMA.names}


def _concat(name: str, tables: Sequence[pa.Table]) -> pa.Table:
    schema = schemas.SCHEMAS[name]
    # Only the schema's columns: a trial of a newer harness may have brought some more.
    plain = [table.select(schema.names).replace_schema_metadata(None) for table in tables]
    return pa.concat_tables(plain) if plain else schema.empty_table()


def _refuse_mixed_data(entries: Iterable[Mapping[str, Any]], ended: Mapping[str, _Ended]) -> None:
    """Raise ValueError if a row, or trials of one task spec, would mix data fingerprints."""
    seen: dict[tuple[str, ...], tuple[str, str]] = {}
    for entry in entries:
        trial_id = entry["trial_id"]
        one = ended[trial_id]
        fingerprint = one.record.get("data_fingerprint")
        if fingerprint is None:  # it failed before it saw its data
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
                    "they cannot stand in one comparison"
                )
