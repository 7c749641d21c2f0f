"""Whatever stands where the mirror belongs, and whatever stops it: the next one is whole."""

import contextlib
import json
import os
import resource
import shutil
import sqlite3

import pytest

from harness.records.collect import collect
from harness.records.mirror import mlflow_file, mlflow_io
from harness.records.mirror.mirror import mirror, update
from harness.records.store import Store

from ..conftest import record_demo
from .mirrored import runs_of


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A store with two suites in its mirror, and a copy of it that is not touched."""
    store = Store.open(tmp_path_factory.mktemp("mirrored") / "store")
    plan = record_demo(store)
    collect(store, "other", plan)
    mirror(store, "other", None)
    mirror(store, "demo", None)
    copy = store.root.with_name("copy")
    shutil.copytree(store.root, copy)
    return store, copy, plan


@pytest.fixture
def mirrored(template):
    """A store with two suites in its mirror."""
    store, copy, _ = template
    shutil.rmtree(store.root)
    shutil.copytree(copy, store.root)
    return store


@pytest.fixture
def bare(mirrored):
    """The same without a mirror."""
    (mirrored.root / "mlflow.db").unlink()
    shutil.rmtree(mirrored.root / "mlartifacts")
    return mirrored


def files(store):
    return {path.name for path in store.root.glob("*mlflow*")}


def is_whole(store):
    """Both suites are there, once, and nothing is left of a making."""
    assert files(store) >= {"mlflow.db"}
    assert not list(store.root.glob(".tmp-*"))
    return all(runs_of(store, suite)[2] == 3 for suite in ("demo", "other"))


def sql(*statements):
    def damage(database):
        with contextlib.closing(sqlite3.connect(database)) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    return damage


def unfinished(database):
    """As MLflow left it when it was stopped while it made its tables."""
    database.unlink()
    sql("CREATE TABLE experiments (experiment_id INTEGER)", "CREATE TABLE alembic_version (v)")(
        database
    )


def torn(database):
    with open(database, "r+b") as file:
        file.truncate(database.stat().st_size // 2)


def flipped(database):
    """A page in the middle has other bytes."""
    with open(database, "r+b") as file:
        file.seek(database.stat().st_size // 2 // 4096 * 4096)
        file.write(os.urandom(4096))


def folder(database):
    database.unlink()
    (database / "inside").mkdir(parents=True)


def dangling(database):
    database.unlink()
    database.symlink_to("nowhere.db")


DAMAGES = {
    "unfinished": unfinished,
    "torn": torn,
    "flipped": flipped,
    "empty": lambda database: database.write_bytes(b""),
    "garbage": lambda database: database.write_bytes(b"garbage " * 1000),
    "newer": sql("UPDATE alembic_version SET version_num = 'fedcba987654'"),
    "older": sql("UPDATE alembic_version SET version_num = '451aebb31d03'"),
    "lacking": sql("DROP TABLE params"),
    "folder": folder,
    "dangling": dangling,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_cannot_be_opened_is_kept_aside_and_made_anew(mirrored, damage, capfd):
    database = mirrored.root / "mlflow.db"
    DAMAGES[damage](database)
    before = database.read_bytes() if database.is_file() else None
    update(mirrored, "demo")
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert "mlflow.db could not be opened (" in err
    (kept,) = mirrored.root.glob("mlflow.db.unreadable-*")
    assert kept.name in err
    assert before is None or kept.read_bytes() == before
    assert is_whole(mirrored)
    update(mirrored, "demo")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("wal", [False, True])
def test_what_sqlite_left_beside_it_goes_aside_too(mirrored, wal):
    """SQLite would play a journal of the lost database into the new one."""
    database = mirrored.root / "mlflow.db"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        if wal:
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA cache_spill = 1")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM metrics")
        beside = list(mirrored.root.glob("mlflow.db-*"))
        assert beside
        copies = {path: path.read_bytes() for path in beside}
        connection.rollback()
    database.unlink()
    for path, content in copies.items():
        path.write_bytes(content)
    update(mirrored, "demo")
    assert is_whole(mirrored)
    assert not list(mirrored.root.glob("mlflow.db-*"))
    assert len(list(mirrored.root.glob("mlflow.db.unreadable-*"))) == len(copies)


def test_a_database_that_another_program_holds_is_left_alone(mirrored, monkeypatch, capfd):
    monkeypatch.setattr(mlflow_file, "BUSY_SECONDS", 0.1)
    before = files(mirrored)
    with contextlib.closing(sqlite3.connect(mirrored.root / "mlflow.db")) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        update(mirrored, "demo")
    assert capfd.readouterr().err == (
        "the MLflow mirror could not be updated: database is locked; "
        "harness report demo makes it again\n"
    )
    assert files(mirrored) == before
    update(mirrored, "demo")
    assert capfd.readouterr().err == ""


@contextlib.contextmanager
def largest_file(size):
    """No file may grow beyond this: the nearest to a full disk that a process has."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def is_short_of_room(store, size, capfd):
    with largest_file(size):
        update(store, "demo")
    err = capfd.readouterr().err
    assert err.count("\n") == 1, err
    assert err.startswith("the MLflow mirror could not be updated: ")
    return not list(store.root.glob(".tmp-*"))


@pytest.mark.parametrize("size", [4096, 400_000])
def test_a_first_mirror_without_room_leaves_nothing(bare, size, capfd):
    assert is_short_of_room(bare, size, capfd)
    assert not files(bare)
    update(bare, "demo")
    assert capfd.readouterr().err == ""
    assert is_whole(bare)


@pytest.mark.parametrize("size", [4096, 600_000])
def test_without_room_it_stays_what_it_was(mirrored, template, size, capfd, ended):
    ended(mirrored, "cc", seed=2, points=1000)
    entry = {"trial_id": "cc", "label": "full", "role": "full", "matches": None}
    collect(mirrored, "demo", {"trials": [*template[2]["trials"], entry]})
    assert is_short_of_room(mirrored, size, capfd)
    assert files(mirrored) - {"mlflow.db-journal"} == {"mlflow.db"}
    update(mirrored, "demo")
    assert capfd.readouterr().err == ""
    assert runs_of(mirrored)[2] == 4


@pytest.mark.parametrize("calls", [0, 3])
def test_stopped_half_way(bare, calls, monkeypatch, capfd):
    log, done = mlflow_io.log, []

    def stopped(*arguments):
        if len(done) == calls:
            raise KeyboardInterrupt
        done.append(arguments)
        log(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(mlflow_io, "log", stopped)
        with pytest.raises(KeyboardInterrupt):
            update(bare, "demo")
    assert capfd.readouterr().err == (
        "the MLflow mirror could not be updated: interrupted; harness report demo makes it again\n"
    )
    assert not files(bare)
    left = bare.root / ".tmp-mlflow-12345-00000000"  # of one that was killed
    left.mkdir()
    (left / "mlflow.db").write_bytes(b"half")
    before = os.umask(0o002)
    try:
        update(bare, "demo")
    finally:
        os.umask(before)
    assert is_whole(bare)
    assert (bare.root / "mlflow.db").stat().st_mode & 0o777 == 0o664


def test_a_suite_that_cannot_be_read_does_not_keep_the_others_out(mirrored):
    (mirrored.root / "mlflow.db").unlink()
    (mirrored.suite("other").folder / "trials.parquet").write_bytes(b"torn")
    mirror(mirrored, "demo", None)
    assert runs_of(mirrored)[2] == 3


NASTY = ("a?b", "a%3Fb", "a#b", "a b", "é→", "a\\b", "a'b\"c", "a\nb", "file:a?mode=memory")


def is_written_inside(root, around):
    """All that a mirror makes is in the store of this name, and can be found there again."""
    root.parent.mkdir()
    shutil.move(around.root, root)
    store = Store(root)
    try:
        mirror(store, "demo", {"id": "one"})
        mirror(store, "demo", {"id": "two"})  # in place
        assert [path.name for path in root.parent.iterdir()] == [root.name]
        assert (root / "mlflow.db").is_file()
        made = {path.name for path in (root / "mlartifacts" / "demo").glob("*/artifacts/*")}
        parents, _, count, _ = runs_of(store)
        assert (count, parents.keys() >= {"one", "two"}) == (5, True)
        with mlflow_io.connected(mlflow_io.database(store)) as client:
            listed = client.list_artifacts(parents["two"].info.run_id)
        assert "index.html" in made & {one.path for one in listed}
    finally:
        shutil.move(root, around.root)


@pytest.mark.parametrize("name", NASTY)
def test_a_store_is_gone_on_with_whatever_it_is_called(mirrored, tmp_path, name):
    is_written_inside(tmp_path / "around" / name, mirrored)
    assert {path.name for path in tmp_path.iterdir()} == {"around"}


def test_a_store_is_begun_whatever_it_is_called(bare, tmp_path):
    is_written_inside(tmp_path / "around" / "a?b=c%3Fd#e f\n\\é", bare)
    assert {path.name for path in tmp_path.iterdir()} == {"around"}


@pytest.mark.parametrize("content", [b"{", b"\xff", b"3", b"[3]", b'[{"id": "one"}]', b"{}", None])
def test_launches_that_cannot_be_read_are_kept_aside(mirrored, content, capfd):
    path = mirrored.suite("demo").folder / "launches.json"
    path.unlink()
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    mirror(mirrored, "demo", {"id": "one"})
    (kept,) = path.parent.glob("launches.json.unreadable-*")
    assert kept.name in capfd.readouterr().err
    assert content is None or kept.read_bytes() == content
    assert [entry["id"] for entry in json.loads(path.read_text())] == ["one"]
    assert "one" in runs_of(mirrored)[0]
