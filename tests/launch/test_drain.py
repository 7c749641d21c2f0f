"""A node that is about to go: Ray places nothing more on it, and what runs there goes on."""

import os
import time
from types import SimpleNamespace

import pytest

from harness.cli import app as cli
from harness.launch.cluster import connected
from harness.launch.drain import drain


@pytest.fixture
def second_node(ray_cluster):
    """A node beside the head's, with a resource that only it has."""
    node = ray_cluster.add_node(num_cpus=2, resources={"second": 2}, object_store_memory=80 * 2**20)
    yield node
    ray_cluster.remove_node(node)


def test_a_drained_node_keeps_its_work_and_gets_no_more(ray_cluster, second_node):
    class Holder:  # local, so that it is sent by value
        def pid(self):
            return os.getpid()

    with connected(ray_cluster.address, 1) as ray:
        there = ray.remote(Holder).options(resources={"second": 1}, num_cpus=1)
        running = there.remote()
        pid = ray.get(running.pid.remote(), timeout=60)
        drain(ray, second_node.node_id, 600)
        time.sleep(1)
        late = there.remote().pid.remote()
        with pytest.raises(ray.exceptions.GetTimeoutError):
            ray.get(late, timeout=5)
        assert ray.get(running.pid.remote(), timeout=10) == pid


def test_what_ray_refuses_is_one_line():
    client = SimpleNamespace(drain_node=lambda *_: (False, "it is busy"))
    context = SimpleNamespace(gcs_address="somewhere")
    ray = SimpleNamespace(
        _raylet=SimpleNamespace(GcsClient=lambda address: client),
        get_runtime_context=lambda: context,
    )
    with pytest.raises(ValueError, match=r"^Ray does not drain node f00: it is busy$"):
        drain(ray, "f00", 60)


def test_a_machine_without_a_cluster_is_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert cli.execute(["cluster", "drain"]) == 2
    said = capsys.readouterr().err
    assert said == "harness: no Ray cluster runs on this machine (address auto)\n"
