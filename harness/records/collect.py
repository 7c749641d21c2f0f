"""Collect a suite's tables, which report and mirror read, from trial folders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pyarrow as pa

from harness.records import schemas
from harness.records.collected import Collected, note_collected
from harness.records.ended import Ended, Reader
from harness.records.index import add_to_index, tidy_index
from harness.records.listing import Files, fingerprint, has_leftovers, trial_files
from harness.records.states import Damaged
from harness.records.store import Store


@dataclass(frozen=True)
class Gathered:
    """Tables over several trials, `trials` last, and one line for each damaged trial."""

    tables: dict[str, pa.Table]
    damaged: list[str]


def collect(store: Store, suite_name: str, plan: Mapping[str, Any]) -> list[str]:
    """Write a suite's tables, `trials`, `curves`, `truncations` and `spectra`, from ended trials.

    Only trials that are new, or have changed since the tables were written, are read; the rows of
    all others are taken from there. Results that were read are added to the index.

    Returns one line for each trial whose record is damaged: which file, why, and what to do.
    Raises ValueError as `gather` does.
    """
    records = store.suite(suite_name)
    trials = dict.fromkeys(entry["trial_id"] for entry in plan["trials"])
    files = trial_files(store, trials)
    known = Collected.of(records)
    source = Reader(store, files, schemas.TRIAL_TABLES)
    ended, lost = _read_all(source, trials, known)
    gathered = _gathered(plan["trials"], ended, lost, schemas.TRIAL_TABLES, known)
    for trial_id in trials:
        if has_leftovers(files[trial_id]):
            store.trial(trial_id).tidy()
    records.sweep()
    data = {name: schemas.table_bytes(table) for name, table in gathered.tables.items()}
    # `trials` last: whoever finds it finds the others at least as new.
    for name, content in data.items():
        records.write(f"{name}.parquet", content)
    note_collected(records, data, _entries(ended, files, known))
    add_to_index(store, source.fresh)
    tidy_index(store)
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
    return _gathered(plan["trials"], *_from_folders(store, plan["trials"], names), names)


def gather_all(store: Store, names: Sequence[str] = schemas.TRIAL_TABLES) -> Gathered:
    """Like `gather`, for all ended trials of the store, each once, without labels."""
    entries = [{"trial_id": trial_id} for trial_id in store.ended_trials()]
    return _tables(entries, *_from_folders(store, entries, names), names)


def _gathered(
    entries: Sequence[Mapping[str, Any]],
    ended: Mapping[str, Ended],
    lost: Mapping[str, str],
    names: Sequence[str],
    known: Collected | None = None,
) -> Gathered:
    _refuse_mixed_data([entry for entry in entries if entry["trial_id"] in ended], ended)
    return _tables(entries, ended, lost, names, known)


def _from_folders(
    store: Store, entries: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> tuple[dict[str, Ended], dict[str, str]]:
    trials = dict.fromkeys(entry["trial_id"] for entry in entries)
    return _read_all(Reader(store, trial_files(store, trials), names), trials, None)


def _read_all(
    source: Reader, trials: Iterable[str], known: Collected | None
) -> tuple[dict[str, Ended], dict[str, str]]:
    """The ended trials by id, and for damaged ones the reason and what to do."""
    reused = {
        trial_id: one
        for trial_id in (trials if known else ())
        if known and (one := known.get(trial_id, source.files[trial_id])) is not None
    }
    read = source.read(one for one in trials if one not in reused)
    found = {one: reused.get(one) or read.get(one) for one in trials}
    ended = {key: one for key, one in found.items() if isinstance(one, Ended)}
    return ended, {key: str(one) for key, one in found.items() if isinstance(one, Damaged)}


def _entries(
    ended: Mapping[str, Ended], files: Mapping[str, Files], known: Collected | None
) -> list[list[Any]]:
    """What `note_collected` takes."""

    def count(one: Ended, name: str) -> int:
        if known is None or one.place is None:
            return one.tables[name].num_rows
        return known.count(name, one.place)

    return [
        [key, fingerprint(files[key]), *(count(one, name) for name in schemas.TRIAL_TABLES)]
        for key, one in ended.items()
    ]


def _tables(
    entries: Sequence[Mapping[str, Any]],
    ended: Mapping[str, Ended],
    lost: Mapping[str, str],
    names: Sequence[str],
    known: Collected | None = None,
) -> Gathered:
    whole = [entry for entry in entries if entry["trial_id"] in ended]
    specs = {schemas.SPECS_KEY: schemas.canonical({key: one.spec for key, one in ended.items()})}
    tables = {name: _concat(name, _parts(name, ended.values(), known)) for name in names}
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


def _stand_in(
    entry: Mapping[str, Any], whole: Iterable[Mapping[str, Any]], ended: Mapping[str, Ended]
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


def _parts(name: str, ended: Iterable[Ended], known: Collected | None) -> Iterator[pa.Table]:
    """A table's rows, in few parts: trials that follow each other in what was collected are one."""
    for place, run in groupby(enumerate(ended), lambda one: _run(*one)):
        trials = [one for _, one in run]
        if place is None or known is None:
            yield from (one.tables[name] for one in trials)
        else:
            first = trials[0].place or 0
            yield known.rows(name, first, first + len(trials))


def _run(number: int, one: Ended) -> int | None:
    """The same for reused trials that follow each other here and there."""
    return None if one.place is None else one.place - number


def _concat(name: str, tables: Iterable[pa.Table]) -> pa.Table:
    schema = schemas.SCHEMAS[name]
    # Only the schema's columns: trials of a newer harness may have more.
    plain = [table.select(schema.names).replace_schema_metadata(None) for table in tables]
    # In one piece, whatever the pieces were: then the same rows are the same bytes.
    return pa.concat_tables(plain).combine_chunks() if plain else schema.empty_table()


def _refuse_mixed_data(entries: Iterable[Mapping[str, Any]], ended: Mapping[str, Ended]) -> None:
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
