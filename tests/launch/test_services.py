"""A run and a study on a team's services: PostgreSQL, an S3 bucket and MLflow with passwords, all
real. What `cluster/services.md` says was tried is tried here."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from harness.cli.app import execute
from harness.records.mirror import mlflow_io, mlflow_server
from tests.mlflow_server import ADMIN, PASSWORD, MlflowServer
from tests.tune.playing import STUDY
from tests.tune.test_cli import FILE

from .test_secrets import SUITE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def for_mlflow(url):
    """SQLAlchemy takes another driver where none is named."""
    return url.replace("postgresql://", "postgresql+psycopg2://")


@pytest.fixture
def server(tmp_path, postgres_server, moto):
    """MLflow's server, its runs in PostgreSQL and its artifacts in a bucket."""
    pytest.importorskip("boto3", reason="boto3 is not installed")
    (tmp_path / "mlflow").mkdir()
    runs = postgres_server.database(f"mlflow_{os.urandom(4).hex()}")
    made = MlflowServer(tmp_path / "mlflow", for_mlflow(runs), f"{moto}/mlflow")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def here(tmp_path, monkeypatch, server):
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "HARNESS_DEVICE": "cpu",
        "HARNESS_MLFLOW": server.address,
        "MLFLOW_TRACKING_USERNAME": ADMIN,
        "MLFLOW_TRACKING_PASSWORD": PASSWORD,
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "hushed.py").write_text(SUITE)
    changes = {"batch": 2, "startup": 2, "budget": {"candidates": 2}}
    (tmp_path / "mine.py").write_text(FILE.replace("{content}", repr(STUDY | changes)))
    return tmp_path


def shown(server, name):
    """The names of a suite's runs on the server, and of the artifacts of its launch."""
    with mlflow_server.connected(server.address) as client:
        found = client.get_experiment_by_name(name)
        if found is None:
            return [], []
        runs = list(mlflow_io.all_runs(client, found.experiment_id))
        launches = [run for run in runs if "harness.launch" in run.data.tags]
        artifacts = client.list_artifacts(launches[0].info.run_id)
        return [run.info.run_name for run in runs], [one.path for one in artifacts]


def test_a_run_and_a_study_on_services(here, ray_address, server, postgres, moto, capfd):
    there = "--store", "store", "--address", ray_address, "--concurrency", "1"
    assert execute(["run", "hushed.py", *there]) == 0
    out, err = capfd.readouterr()
    assert "MLflow" not in out + err
    runs, artifacts = shown(server, "hushed")
    assert "digits full seed 0" in runs
    assert {"comparison.csv", "index.html", "trials.parquet"} <= set(artifacts)

    assert execute(["tune", "mine.py:study", *there, "--storage", postgres]) == 0
    assert shown(server, "tiny")[0]
    assert not (here / "store" / "mlflow.db").exists()
    assert not (here / "store" / "optuna.db").exists()
    # Who may not change the runs cannot reach the artifacts either: they go through the server.
    import boto3

    keys = boto3.client("s3").list_objects_v2(Bucket=moto.removeprefix("s3://"))["Contents"]
    assert any(one["Key"].endswith("index.html") for one in keys)
    capfd.readouterr()


def test_mlflow_away_for_good_costs_a_line_and_a_later_report_mirrors(
    here, ray_address, server, monkeypatch, capfd
):
    monkeypatch.setattr(mlflow_server, "WAIT", 2.0)
    server.stop()
    there = "--store", "store", "--address", ray_address, "--concurrency", "1"
    assert execute(["run", "hushed.py", *there]) == 0
    out, err = capfd.readouterr()
    assert "digits: accuracy" in out
    (line,) = [line for line in err.splitlines() if "MLflow mirror" in line]
    assert "Connection refused; harness report hushed makes it again" in line
    assert PASSWORD not in out + err
    server.start()
    assert execute(["report", "hushed", "--store", "store"]) == 0
    assert "digits full seed 0" in shown(server, "hushed")[0]


def test_what_is_backed_up_is_all(here, ray_address, server, postgres_server, tmp_path, capfd):
    """pg_dump and the bucket make a server anew, as the page says."""
    if shutil.which("pg_dump") is None:
        pytest.skip("pg_dump is not installed")
    there = "--store", "store", "--address", ray_address, "--concurrency", "1"
    assert execute(["run", "hushed.py", *there]) == 0
    before = shown(server, "hushed")
    server.stop()
    dump = tmp_path / "mlflow.dump"
    plain = server.backend.replace("+psycopg2", "")
    subprocess.run(["pg_dump", "-Fc", "-f", dump, plain], check=True)
    restored = postgres_server.database("restored")
    subprocess.run(["pg_restore", "--no-owner", "-d", restored, dump], check=True)
    server.backend = for_mlflow(restored)
    server.start()
    assert shown(server, "hushed") == before
    capfd.readouterr()
