"""Clusters that cannot be used from here: one line says why, in seconds, and nothing is written."""

import os
import subprocess
import sys

import psutil
import pytest

from harness.launch import launch
from tests.cli.test_process import HARNESS, PATHS, refused
from tests.launch.fakes import FakeJobs, Watcher, job, tiny


def refusal_of(address, store):
    with pytest.raises(ValueError, match="Ray cluster at ") as caught:
        launch(FakeJobs([job(tiny())]), store, address=address, progress=Watcher())
    assert not list(store.iterdir())
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("token", ["0" * 64, "", "über", "two\nlines"])
def test_a_token_of_another_cluster(tmp_path, ray_address, monkeypatch, token, capfd):
    path = tmp_path / "token"
    path.write_text(token)
    (tmp_path / "store").mkdir()
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    said = refusal_of(ray_address, tmp_path / "store")
    assert f"does not accept the token in {path}" in said
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    assert "the token of RAY_AUTH_TOKEN" in refusal_of(ray_address, tmp_path / "store")
    assert capfd.readouterr() == ("", "")


def test_no_token(tmp_path, ray_address, monkeypatch):
    with monkeypatch.context() as patch:
        patch.delenv("RAY_AUTH_MODE")
        said = refusal_of(ray_address, tmp_path)
    assert "asks for a token: set RAY_AUTH_MODE=token" in said
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/nowhere/token")
    said = refusal_of(ray_address, tmp_path)
    assert said.endswith("but /nowhere/token: No such file or directory")


def test_other_versions(tmp_path, ray_address, monkeypatch):
    monkeypatch.setattr("ray._private.utils.compute_version_info", lambda: ("2.9.0", "3.11.99"))
    said = refusal_of(ray_address, tmp_path)
    python = ".".join(map(str, sys.version_info[:3]))
    assert f"and Python {python}; here are Ray 2.9.0 and Python 3.11.99. They must be" in said


PUBLISH = """
import time
from harness.launch import cluster
with cluster.connected({address!r}, 1) as ray:
    from ray._private.utils import publish_error_to_driver
    client = ray._private.worker.global_worker.gcs_client
    publish_error_to_driver("node", "it was killed\\n  [state-dump]", client, job_id=None)
    time.sleep(2)
    print("the result")
"""


def test_what_nodes_publish_is_not_in_the_output(ray_address):
    """Ray prints it in the midst of a table, or of JSON that a program reads."""
    done = subprocess.run(
        [sys.executable, "-c", PUBLISH.format(address=ray_address)],
        env={**os.environ, "PYTHONPATH": PATHS},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.stdout, done.stderr) == ("the result\n", "")


HEAD_ALONE = """
import os, sys
import psutil
from ray.cluster_utils import Cluster

settings = {"object_store_memory": 80 * 1024**2, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args={**settings, "num_cpus": 1})
for process in psutil.Process().children(recursive=True):
    if process.name() == "raylet":
        process.kill()
print(cluster.address, flush=True)
sys.stdin.read()
"""


@pytest.mark.slow  # Ray looks for a node for 15 s
def test_a_machine_that_is_no_node(tmp_path):
    """As seen from a machine without a raylet of this cluster; its head answers, with no token."""
    from harness.launch.local.folder import private_folder

    fresh = {k: v for k, v in os.environ.items() if not k.startswith(("HARNESS_", "RAY_"))}
    fresh |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": PATHS}
    head = subprocess.Popen(
        [sys.executable, "-c", HEAD_ALONE],
        env={**fresh, "RAY_TMPDIR": str(private_folder())},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        address = head.stdout.readline().strip()
        done = subprocess.run(
            [*HARNESS, "run", "demo", "--store", "store", "--address", address, "--only", "*/full"],
            cwd=tmp_path,
            env=fresh,
            capture_output=True,
            check=False,
            timeout=120,
        )
        done.stderr = done.stderr.removeprefix(f"connecting to Ray at {address}\n".encode())
        assert f"`ray start --address={address}` makes this machine a node" in refused(done)
        assert not (tmp_path / "store").exists()
    finally:
        for one in psutil.Process(head.pid).children(recursive=True):
            one.kill()
        head.kill()
        head.communicate()
