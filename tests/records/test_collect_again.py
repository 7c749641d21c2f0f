"""Tables that are collected again: only what is new is read, and they are as if all was."""

import os
import secrets
import shutil

import pyarrow as pa
import pytest

from harness.records import checksums, schemas
from harness.records.collect import collect, gather
from harness.records.files import write_json
from harness.records.store import Store

from .conftest import SPEC, curve_of, record_of
from .test_collect import entry
from .test_damage import DAMAGES, READ_BY_REPORT

IDS = ("aa", "bb", "cc", "dd")
TABLES = ("trials", "curves", "truncations", "spectra")


def whole(store, trial_id, seed, **changes):
    """A trial with rows in every table but every other one's truncations."""
    trial = store.trial(trial_id)
    trial.begin({**SPEC, "seed": seed, "training": {**SPEC["training"], "lr": seed / 7}}, {})
    record = record_of(trial_id, seed, **changes)
    spectra = [
        {"trial_id": trial_id, "step": k, "block": 0, "hankel_singular_values": [1.0, seed / 3],
         "mode_shares": [0.5, float("nan")]}
        for k in range(2)
    ]  # fmt: skip
    events = [{"trial_id": trial_id, "step": 1, "block": 0, "dim_before": 4, "dim_after": 2}]
    trial.finish(
        {"curves": curve_of(trial_id, 3 + seed), "truncations": events[: seed % 2],
         "spectra": spectra},
        {"status": record["status"], "record": record},
    )  # fmt: skip


def entries(*ids):
    rows = [{**entry(one), "seed": seed} for seed, one in enumerate(ids or IDS)]
    return [*rows, entry(rows[0]["trial_id"], label="small", role="small", matches="x")]


@pytest.fixture
def store(tmp_path):
    """A store whose suite was collected."""
    store = Store(tmp_path / "store")
    for seed, trial_id in enumerate(IDS):
        whole(store, trial_id, seed)
    collect(store, "demo", {"trials": entries()})
    return store


def tables(store):
    return {name: store.suite("demo").read(f"{name}.parquet") for name in TABLES}


def read_by(monkeypatch, store, body):
    """The trials of which `body` reads a file."""
    kind, keys = type(store.storage), set()
    reading = kind.read
    with monkeypatch.context() as patch:
        patch.setattr(kind, "read", lambda self, key, *n: keys.add(key) or reading(self, key, *n))
        body()
    return {key.split("/")[1] for key in keys if key.startswith("trials/")}


def anew(store, plan):
    """The tables and damage of a collection from nothing."""
    for name in ("suites", "index"):
        store.storage.delete_all(f"{name}/")
    return collect(store, "demo", plan), tables(store)


def path(store, *parts):
    return store.root.joinpath(*parts)


def rerun(store):
    store.trial("bb").wipe()
    whole(store, "bb", 1, test_metric=0.5)


def left_unfinished(store):
    path(store, "trials", "bb", "result.json").unlink()
    path(store, "trials", "bb", "spectra.parquet").unlink()


CHANGES = {
    "nothing": (lambda store: None, entries(), set()),
    "one more": (lambda store: whole(store, "ee", 4), entries(*IDS, "ee"), {"ee"}),
    "one more in the middle": (
        lambda store: whole(store, "ee", 4), entries("aa", "ee", "bb", "cc", "dd"), {"ee"}),
    "one less": (lambda store: None, entries("aa", "cc", "dd"), set()),
    "another order": (lambda store: None, entries("dd", "bb", "aa", "cc"), set()),
    "other labels": (
        lambda store: None, [{**one, "label": "new", "comparison": "c"} for one in entries()],
        set()),
    "a folder removed": (
        lambda store: shutil.rmtree(path(store, "trials", "bb")), entries(), set()),
    "a trial wiped": (lambda store: store.trial("bb").wipe(), entries(), set()),
    "a trial run again": (rerun, entries(), {"bb"}),
    "a trial left without its end": (left_unfinished, entries(), set()),
    "the end of a trial lost": (
        lambda store: path(store, "trials", "bb", "result.json").unlink(), entries(), set()),
    "a model removed": (
        lambda store: path(store, "trials", "bb", "manifest.json").unlink(), entries(), set()),
    "a store copied": (
        lambda store: [os.utime(one, (9, 9)) for one in path(store, "trials").rglob("*")],
        entries(), set(IDS)),
    "no index": (lambda store: shutil.rmtree(path(store, "index")), entries(), set()),
    "with plug-ins": (
        lambda store: whole(store, "ee", 4, plugins='[{"name": "mine"}]'),
        entries(*IDS, "ee"), {"ee"}),
    "nothing left": (lambda store: shutil.rmtree(path(store, "trials")), entries(), set()),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_only_what_is_new_is_read_and_tables_are_the_same(store, monkeypatch, change):
    alter, rows, expected = CHANGES[change]
    alter(store)
    damaged = []
    read = read_by(
        monkeypatch, store, lambda: damaged.extend(collect(store, "demo", {"trials": rows}))
    )
    assert read == expected
    again = tables(store)
    assert (damaged, again) == anew(store, {"trials": rows})
    assert bool(damaged) == (change == "the end of a trial lost")


@pytest.mark.parametrize("file", READ_BY_REPORT)
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_since_is_found(store, file, damage):
    """And once it is mended, the trial's rows are back."""
    target = path(store, "trials", "bb", file)
    before, times = target.read_bytes(), target.stat()
    DAMAGES[damage](target)
    plan = {"trials": entries()}
    damaged, again = collect(store, "demo", plan), tables(store)
    assert (damaged, again) == anew(store, plan)
    if target.is_dir() and not target.is_symlink():
        target.rmdir()
    target.unlink(missing_ok=True)
    target.write_bytes(before)
    os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert collect(store, "demo", plan) == []
    again = tables(store)
    assert anew(store, plan) == ([], again)


SUITE_FILES = (*(f"{name}.parquet" for name in TABLES), "collected/trials.json")


@pytest.mark.parametrize("file", SUITE_FILES)
@pytest.mark.parametrize("damage", ["delete", "empty", "half", "flip", "braces", "list"])
def test_tables_that_are_not_as_they_were_written_are_made_from_nothing(
    store, monkeypatch, file, damage
):
    before = tables(store)
    DAMAGES[damage](path(store, "suites", "demo", file))
    plan = {"trials": entries()}
    assert read_by(monkeypatch, store, lambda: collect(store, "demo", plan)) == set(IDS)
    assert tables(store) == before


def test_tables_of_a_harness_without_a_column_are_made_from_nothing(store, monkeypatch):
    before = tables(store)
    with monkeypatch.context() as patch:
        fewer = pa.schema([one for one in schemas.SCHEMAS["curves"] if one.name != "seconds"])
        patch.setitem(schemas.SCHEMAS, "curves", fewer)
        collect(store, "demo", {"trials": entries()})
        assert tables(store)["curves"] != before["curves"]
    collect(store, "demo", {"trials": entries()})
    assert tables(store) == before


def test_a_suite_of_another_name_takes_nothing_over(store):
    collect(store, "other", {"trials": entries()})
    for name in TABLES:
        file = f"{name}.parquet"
        assert store.suite("other").read(file) == store.suite("demo").read(file)


def test_in_a_bucket_too(moto, monkeypatch):
    store = Store(f"{moto}/{secrets.token_hex(4)}")
    for seed, trial_id in enumerate(IDS):
        whole(store, trial_id, seed)
    plan = {"trials": entries()}
    collect(store, "demo", plan)
    assert read_by(monkeypatch, store, lambda: collect(store, "demo", plan)) == set()
    store.trial("bb").storage.delete_all("trials/bb/")
    whole(store, "ee", 4)
    plan = {"trials": entries("aa", "ee", "bb", "cc", "dd")}
    assert read_by(monkeypatch, store, lambda: collect(store, "demo", plan)) == {"ee"}
    again = tables(store)
    assert anew(store, plan) == ([], again)


def test_what_is_only_read_is_read_from_the_trials(store, monkeypatch):
    """`harness.open_store` writes nothing, and takes nothing over."""
    before = {one: one.stat().st_mtime_ns for one in store.root.rglob("*")}
    assert gather(store, {"trials": entries()}).tables["trials"].num_rows == 5
    assert {one: one.stat().st_mtime_ns for one in store.root.rglob("*")} == before


def test_a_trial_taken_over_is_read_from_the_place_that_counts(store, monkeypatch):
    """A file of its place that has changed is found, as one beside the result is."""
    trial = store.trial("bb")
    content = trial.result()
    place = path(store, "trials", "bb", "epochs", "2")
    place.mkdir(parents=True)
    for name in ("curves", "truncations", "spectra"):
        path(store, "trials", "bb", f"{name}.parquet").rename(place / f"{name}.parquet")
    sums = {key: one for key, one in content[checksums.KEY].items() if key != checksums.RESULT}
    plain = {key: one for key, one in content.items() if key != checksums.KEY}
    write_json(
        path(store, "trials", "bb", "result.json"), checksums.seal({**plain, "epoch": 2}, sums)
    )
    plan = {"trials": entries()}
    assert collect(store, "demo", plan) == []
    assert read_by(monkeypatch, store, lambda: collect(store, "demo", plan)) == set()
    DAMAGES["flip"](place / "curves.parquet")
    (said,) = collect(store, "demo", plan)
    assert "curves.parquet" in said
