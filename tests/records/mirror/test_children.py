"""Runs that are added side by side, and what a database's file is spared."""

import sqlite3
import threading

import psutil
import pytest
from sqlalchemy import create_engine

from harness.records.collect import collect
from harness.records.mirror import mlflow_io
from harness.records.mirror.children import Child, add
from harness.records.mirror.mirror import mirror
from harness.records.mirror.mirror_content import MirroredTrial
from harness.records.store import Store

from ..conftest import record_demo
from .mirrored import runs_of


class Client:
    """Takes calls, so many at a time; the run of the name `bad` fails."""

    def __init__(self, at_a_time):
        self.together = threading.Barrier(at_a_time)
        self.names, self.ended = [], []

    def create_run(self, experiment, run_name, **_):
        self.together.wait(10)
        if run_name == "bad":
            raise OSError("it is full")
        self.names.append(run_name)
        return type("Run", (), {"info": type("Info", (), {"run_id": run_name})})

    def log_batch(self, *_, **__):
        pass

    def set_terminated(self, run_id, status, at):
        self.ended.append((run_id, status, at))


def child(name):
    tags = {"mlflow.runName": name}
    return Child(MirroredTrial(name, "c", tags, {}, [], 1, 2, "FINISHED"), "parent")


def test_so_many_at_a_time():
    client = Client(4)
    add(client, "0", [child(str(i)) for i in range(8)], 4)  # a barrier of 4 lets no 3 through
    assert sorted(client.ended) == [(str(i), "FINISHED", 2) for i in range(8)]


def test_a_failure_is_raised_and_what_waits_is_not_begun():
    client = Client(2)
    with pytest.raises(OSError, match="it is full"):
        add(client, "0", [child("bad"), child("good"), *[child("later")] * 100], 2)
    assert len(client.names) < 90


def test_only_the_mirror_is_written_at_once(tmp_path):
    """Nothing else that this process writes may be lost by a power cut."""
    store = Store.open(tmp_path / "a #store with ä")
    collect(store, "demo", record_demo(store))
    mirror(store, "demo")
    study = create_engine(f"sqlite:///{tmp_path}/optuna.db")
    memory = create_engine("sqlite://")
    modes = []
    with mlflow_io.connected(mlflow_io.database(store)) as client:
        own = client._tracking_client.store.engine
        for engine in (own, study, memory):
            with engine.connect() as connection:
                modes.append(connection.exec_driver_sql("PRAGMA synchronous").scalar())
    assert modes == [0, 2, 2]
    later = create_engine("sqlite://", creator=lambda: sqlite3.connect(mlflow_io.database(store)))
    with later.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    with sqlite3.connect(mlflow_io.database(store)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert runs_of(store)[2] == 3


def test_no_connection_outlives_the_client(tmp_path):
    """What is renamed, or removed, has no writer left."""
    file = tmp_path / "mlflow.db"
    with mlflow_io.connected(file) as client:
        add(client, client.create_experiment("x"), [child("a"), child("b")], 1)
        assert str(file) in {one.path for one in psutil.Process().open_files()}
    assert str(file) not in {one.path for one in psutil.Process().open_files()}
