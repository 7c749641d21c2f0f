"""Where a study is kept: files, a real PostgreSQL server, and what cannot be reached."""

import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from harness.records.lease import Busy
from harness.records.store import Store
from harness.tune.search import ask_and_tell
from harness.tune.search import optuna_storage as storage_room
from harness.tune.search.ask_and_tell import open_search
from harness.tune.search.optuna_storage import StorageLost
from tests.postgres import postgres_server

from .driving import drive, end

PARAMS = [{"sampler": "tpe"}, {"sampler": "nsga2", "goal": "pareto"}]


def refused(make_study, url, store):
    """The one line with which opening a study on `url` is refused."""
    with pytest.raises(ValueError) as said, open_search(make_study(), url, store):  # noqa: PT011
        pass
    line = str(said.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nowhere", "must be sqlite:///FILE or postgresql://"),
        ("mysql://root@127.0.0.1/x", "must be sqlite:///FILE or postgresql://.*not mysql"),
        ("redis://127.0.0.1", "must be sqlite:///FILE or postgresql://"),
        ("sqlite://", "in memory would be lost"),
        ("sqlite:////no/such/folder/x.db", "there is no folder /no/such/folder"),
        (
            "postgresql+asyncpg://u@127.0.0.1/x",
            "needs asyncpg, which is not installed|needs asyncpg",
        ),
    ],
)
def test_a_storage_that_cannot_be_is_refused(make_study, store, url, said):
    import re

    assert re.search(said, refused(make_study, url, store))
    assert not store.root.exists()


def test_a_driver_that_is_missing_is_named(make_study, store, monkeypatch):
    monkeypatch.setattr(storage_room, "find_spec", lambda name: None)
    line = refused(make_study, "postgresql://u@127.0.0.1/x", store)
    assert "needs psycopg2, which is not installed" in line


def test_a_server_that_is_not_there_is_refused_at_once(make_study, store):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    begun = time.monotonic()
    line = refused(make_study, f"postgresql://u:secret@127.0.0.1:{port}/x", store)
    assert time.monotonic() - begun < 3
    assert "Connection refused" in line
    assert "secret" not in line
    assert not store.root.exists()


def test_a_server_that_never_answers_is_refused_within_seconds(make_study, store, monkeypatch):
    assert storage_room.CONNECT_SECONDS <= 5
    monkeypatch.setattr(storage_room, "CONNECT_SECONDS", 2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        begun = time.monotonic()
        line = refused(make_study, f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/x", store)
    assert time.monotonic() - begun < 4
    assert "timeout expired" in line
    assert not store.root.exists()


def test_a_file_that_is_no_database_is_refused(make_study, store):
    store.root.mkdir()
    (store.root / "optuna.db").write_bytes(b"no database at all, " * 100)
    assert "file is not a database" in refused(make_study, None, store)
    assert (store.root / "optuna.db").read_bytes().startswith(b"no database")


def test_a_storage_of_another_optuna_is_refused(make_study, store):
    import sqlite3

    drive(make_study(), None, store, batches=1)
    with sqlite3.connect(store.root / "optuna.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v9.9.9.a'")
    assert "no longer compatible" in refused(make_study, None, store)


def test_odd_paths_and_files_elsewhere(make_study, tmp_path):
    store = Store(tmp_path / "a b%20{x}?y#z")
    asked = drive(make_study(), None, store, batches=1)
    assert (store.root / "optuna.db").is_file()
    elsewhere = tmp_path / "shared"
    elsewhere.mkdir()
    url = f"sqlite:///{elsewhere}/studies.db"
    assert drive(make_study(), url, store, batches=1) == asked
    assert (elsewhere / "studies.db").is_file()
    with (
        open_search(make_study(), url, store),
        pytest.raises(Busy),
        open_search(make_study(), url, Store(tmp_path / "another store")),
    ):
        pass


# On a server


@pytest.mark.parametrize("kind", PARAMS, ids=["tpe", "nsga2"])
def test_a_server_gives_the_same_suggestions_as_a_file(make_study, tmp_path, postgres, kind):
    study = make_study(**kind)
    on_file = drive(study, None, Store(tmp_path / "file"), batches=4)
    store = Store(tmp_path / "server")
    assert drive(study, postgres, store, batches=2) == on_file[:6]
    assert drive(study, postgres, store, batches=4) == on_file
    assert not (store.root / "optuna.db").exists()
    other = make_study(**kind, grid=40)
    with (
        pytest.raises(ValueError, match="grid is 50 there and 40 here") as said,
        open_search(other, postgres, store),
    ):
        pass
    assert "\n" not in str(said.value)


HOLD = """
import sys
from pathlib import Path
from harness.records.store import Store
from harness.tune import Study
from harness.tune.search.ask_and_tell import open_search
study = Study.model_validate_json(Path(sys.argv[1]).read_text())
with open_search(study, sys.argv[2], Store(sys.argv[3])) as search:
    search.batch(0)
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_driver_on_another_machine_is_refused_until_it_dies(make_study, tmp_path, postgres):
    study = make_study()
    (tmp_path / "study.json").write_text(study.model_dump_json())
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "study.json", postgres, tmp_path / "there"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    here = Store(tmp_path / "here")
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        name = f"process {child.pid} on {os.uname().nodename}"[:63]
        with (
            pytest.raises(Busy, match=f"study timing is being run by {name}"),
            open_search(study, postgres, here),
        ):
            pass
        assert not here.root.exists()
        with open_search(make_study(name="other"), postgres, here):
            pass
    finally:
        child.kill()
        child.wait()
    deadline = time.monotonic() + 10
    while True:
        try:
            with open_search(study, postgres, here) as search:
                assert search.asked == 3  # what it had asked is there
                assert search.state(0) == "running"
            break
        except Busy:  # until the server has noticed
            assert time.monotonic() < deadline
            time.sleep(0.05)


def cut_all_connections(url):
    import psycopg2

    with psycopg2.connect(url) as admin:
        admin.cursor().execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    admin.close()


def test_a_study_goes_on_after_its_connections_broke_and_is_locked_again(
    make_study, store, postgres, tmp_path
):
    with open_search(make_study(), postgres, store) as search:
        search.batch(0)
        cut_all_connections(postgres)
        search.batch(0)
        with (
            pytest.raises(Busy, match="study timing is being run by"),
            open_search(make_study(), postgres, Store(tmp_path / "other")),
        ):
            pass
    assert drive(make_study(), postgres, store) == drive(make_study(), None, store)


def test_whoever_runs_the_study_since_keeps_it(make_study, store, postgres, tmp_path):
    with open_search(make_study(), postgres, store) as search:
        search.batch(0)
        cut_all_connections(postgres)
        with open_search(make_study(), postgres, Store(tmp_path / "other")):
            # In one process both have one name, by which the server's lock tells them apart.
            search._lock.take = lambda again: type(search._lock).take(search._lock)
            with pytest.raises(Busy, match="study timing is being run by"):
                search.batch(0)


@pytest.fixture
def own_server():
    """A server and a database of it that no other test needs."""
    with postgres_server() as server:
        yield server, server.database("own")


def test_a_server_that_starts_again_in_the_middle_changes_nothing(make_study, tmp_path, own_server):
    server, url = own_server
    study = make_study()
    undisturbed = drive(study, None, Store(tmp_path / "file"))
    asked = []
    with open_search(study, url, Store(tmp_path / "server")) as search:
        for k in range(3):
            server.stop()
            threading.Timer(1.5, server.start).start()
            for one in search.batch(k):
                end(search, study, one)
                asked.append((one, search.state(one.number)))
    assert asked == undisturbed


def test_a_server_that_stays_away_is_said_in_one_line(make_study, store, own_server, monkeypatch):
    server, url = own_server
    monkeypatch.setattr(ask_and_tell, "PATIENCE", 0.0)
    with open_search(make_study(), url, store) as search:
        asked = search.batch(0)
        server.stop()
        with pytest.raises(StorageLost, match="the storage postgresql://harness@") as said:
            search.fail(asked[0].number, "diverged")
        assert "\n" not in str(said.value)
    server.start()  # for its end
    assert drive(make_study(), url, store) == drive(make_study(), None, store)


SECRET = "hunter2"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{SECRET}@127.0.0.1:9/db",
        f"postgresql://me:p%40{SECRET}%25%2Fx@127.0.0.1:9/db",
        f"postgresql://me:p/{SECRET}@127.0.0.1:9/db",
        f"postgresql://me:{{{SECRET}}}@127.0.0.1:9/db",
        f"postgresql://me@127.0.0.1:9/db?password={SECRET}",
        f"postgresql://me:p@{SECRET}@127.0.0.1:9/db",
        f"postgresql://me:p@{SECRET}:x@127.0.0.1:9/db",
        f"postgresql://me:p@x/{SECRET}@127.0.0.1:9/db",
        f"postgresql://me:{SECRET}@127.0.0.1:port/db",
        f"mysql://me:{SECRET}@127.0.0.1:9/db",
        f"sqlite:///x.db?password={SECRET}",
        f"{SECRET}@127.0.0.1:9/db",
    ],
)
def test_no_message_has_the_password(make_study, store, url):
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed")
    assert SECRET not in refused(make_study, url, store)
    assert not store.root.exists()


@pytest.mark.parametrize(
    "name", ["a?b", "a%3Fb", "a#b %", "é\n", "{a}", "{SCHEMA_VERSION}", "a\\'\""]
)
def test_the_file_is_in_the_store_whatever_that_is_called(make_study, tmp_path, name):
    store = Store.open(tmp_path / "around" / name)
    for _ in range(2):  # made, and gone on with
        with open_search(make_study(), None, store) as search:
            search.batch(0)
    assert [path.name for path in (tmp_path / "around").iterdir()] == [name]
    assert [path.name for path in store.root.glob("optuna*")] == ["optuna.db"]
