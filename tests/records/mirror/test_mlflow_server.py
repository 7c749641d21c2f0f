"""The mirror on an MLflow server: one of a team, with passwords, which may be away."""

import shutil
import threading
import time

import pytest

from harness.records.mirror import mlflow_io, mlflow_server
from harness.records.mirror.mirror import update
from harness.records.storage import Bucket
from harness.records.store import Store
from tests.mlflow_server import ADMIN, PASSWORD, MlflowServer
from tests.servers import free_port

from ..conftest import record_demo

AGAIN = "; harness report demo makes it again\n"


@pytest.fixture
def demo(tmp_path):
    """A store with a suite `demo` of ended trials, collected."""
    store = Store.open(tmp_path / "store")
    record_demo(store)
    return store


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(mlflow_server, "WAIT", 0.0)


def test_a_server_that_is_away_is_one_line_without_the_password(
    demo, monkeypatch, impatient, capfd
):
    port = free_port()
    monkeypatch.setenv("HARNESS_MLFLOW", f"http://me:hush@127.0.0.1:{port}")
    update(demo, "demo")
    out, err = capfd.readouterr()
    where = f"the MLflow server http://***@127.0.0.1:{port}"
    assert err == f"the MLflow mirror could not be updated: {where}: Connection refused{AGAIN}"
    assert out == ""
    assert not demo.has_mirror()  # nor is it made elsewhere instead


def test_two_stores_with_suites_of_one_name_do_not_mix(tmp_path):
    """On a database in the place of a server: the calls are the same."""
    one, two = (Store.open(tmp_path / name) for name in ("one", "two"))
    with mlflow_io.connected(tmp_path / "mlflow.db") as client:
        first = mlflow_server.experiment(client, one, "demo")
        second = mlflow_server.experiment(client, two, "demo")
        assert first != second
        assert client.get_experiment(first).name == "demo"
        assert client.get_experiment(second).name.startswith("demo ")
        assert client.get_experiment(second).tags["harness.place"] == str(two.root)
        shutil.move(one.root, tmp_path / "moved")
        moved = Store.open(tmp_path / "moved")
        assert mlflow_server.experiment(client, moved, "demo") == first
        client.delete_experiment(second)
        assert mlflow_server.experiment(client, two, "demo") == second
        assert client.get_experiment(second).lifecycle_stage == "active"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    made = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def known(server, monkeypatch):
    """We have its address, and a password."""
    monkeypatch.setenv("HARNESS_MLFLOW", server.address)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", ADMIN)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    return server


def runs_on(server, name="demo"):
    """The runs that the server shows, by trial or launch, and the names of artifacts."""
    with mlflow_server.connected(server.address) as client:
        found = client.get_experiment_by_name(name)
        runs = list(mlflow_io.all_runs(client, found.experiment_id)) if found else []
        (parent,) = [run for run in runs if "harness.launch" in run.data.tags] or [None]
        artifacts = client.list_artifacts(parent.info.run_id) if parent else []
        return runs, [one.path for one in artifacts]


def trials_of(store):
    return len(set(store.suite("demo").table("trials")["trial_id"].to_pylist()))


def forget(server, name="demo"):
    with mlflow_server.connected(server.address) as client:
        found = client.get_experiment_by_name(name)
        if found is not None:
            client.rename_experiment(found.experiment_id, f"{name} of {time.time()}")


@pytest.mark.slow
def test_a_suite_is_shown_with_its_tables_and_only_once(demo, known, capfd):
    for _ in range(2):
        update(demo, "demo")
        runs, artifacts = runs_on(known)
        assert len(runs) == trials_of(demo) + 1
        assert "trials.parquet" in artifacts
    assert capfd.readouterr() == ("", "")
    assert not demo.has_mirror()
    forget(known)


@pytest.mark.slow
def test_a_store_in_a_bucket_is_shown_too(demo, known, moto, tmp_path, capfd):
    there = Bucket(f"{moto}/mirrored")
    for path in demo.root.rglob("*"):
        if path.is_file():
            there.write(path.relative_to(demo.root).as_posix(), path.read_bytes())
    update(Store(f"{moto}/mirrored"), "demo")
    runs, artifacts = runs_on(known)
    assert len(runs) == trials_of(demo) + 1
    assert "trials.parquet" in artifacts
    assert capfd.readouterr() == ("", "")
    forget(known)


@pytest.mark.slow
@pytest.mark.parametrize("password", [None, "wrong-wrong-wrong"])
def test_without_the_password_nothing_is_shown(demo, known, monkeypatch, password, capfd):
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    if password:
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    else:
        monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    update(demo, "demo")
    err = capfd.readouterr().err
    assert "it does not accept our credentials (MLFLOW_TRACKING_USERNAME and" in err
    assert err.count("\n") == 1
    assert "wrong-wrong" not in err


@pytest.mark.slow
def test_a_server_that_comes_back_is_waited_for(demo, known, monkeypatch, capfd):
    monkeypatch.setattr(mlflow_server, "WAIT", 300.0)
    known.stop()
    threading.Timer(2.0, known.start, kwargs={"wait": False}).start()
    update(demo, "demo")
    out, err = capfd.readouterr()
    assert out == ""
    assert err == f"harness: waiting: the MLflow server {known.address} does not answer\n"
    assert len(runs_on(known)[0]) > 1
    forget(known)
