"""Nodes that do not fit together are named before anything runs."""

import secrets
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.launch.cluster import Node
from harness.launch.node_check import described
from harness.launch.node_check.facts import examine
from harness.launch.node_check.needs import Needs
from harness.launch.node_check.report import report_on
from harness.records import meeting
from harness.records.meeting import meeting_place
from harness.records.storage import storage_at
from tests.cli.test_process import HARNESS, refused
from tests.launch.raylets import environment_of, raylet

NODE = Node("a1", 2.0, 0.0, "far (10.0.0.7)")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(meeting, "SEE", 0.2)


def asked(place=None, needs=None, data_dir=None):
    """What this process would answer as a node."""
    return examine(place, NODE.node_id, NODE.gpus, needs or Needs(), data_dir)


def report(here, place=None, **other):
    return report_on(NODE, {**here, "ahead": (-0.1, 0.1), **other}, here, place, Needs())


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({}, None),
        ({"torch": "1.0"}, "torch 1.0, here "),
        ({"python": "3.9.1"}, "python 3.9.1, here 3."),
        ({"code": "abc", "commit": "123"}, "another harness, abc (commit 123), here "),
        ({"commit": "123"}, None),  # the same code
        ({"settings": {"HARNESS_CUDA_GRAPHS": "0"}}, "HARNESS_CUDA_GRAPHS is set there and not"),
        ({"settings": {"HARNESS_DATA": "/data"}}, None),  # a node's own
        ({"store": "does not see the store"}, "does not see the store"),
    ],
)
def test_what_decides_results_must_be_equal(other, says):
    found = report(asked(), **other)
    assert len(found.faults) == bool(says)
    assert not says or found.faults[0].startswith(says)
    lines = list(described(found))
    assert lines[0] == "node far (10.0.0.7): 2 CPUs, 0 GPUs"
    assert [line for line in lines if "unfit" in line] == [f"  unfit: {f}" for f in found.faults]


def test_a_setting_that_the_driver_gives_to_all_workers_may_differ(monkeypatch):
    other = {"settings": {"HARNESS_CHECKPOINT_SECONDS": "5"}}
    assert report(asked(), **other).faults
    monkeypatch.setenv("HARNESS_CHECKPOINT_SECONDS", "7")
    assert not report(asked(), **other).faults


def test_the_store_is_tried_in_both_directions_and_nothing_stays(tmp_path):
    root = tmp_path / "new" / "store"
    with meeting_place(str(root)) as place:
        assert asked(place)["store"] is None
        assert report(asked(), place).faults == ()
        Path(place, "a1").unlink()  # it went to another disk
        (fault,) = report(asked(), place).faults
        assert fault == f"what it writes to {root} does not arrive here"
        Path(place, meeting.HOST).unlink()
        said = asked(place)["store"]
        assert said == f"does not see the store {root}: another folder has this path there"
        shutil.rmtree(root)
        assert asked(place)["store"] == f"does not see the store {root}"
        Path(place).mkdir(parents=True)
    assert not list(tmp_path.iterdir())


def test_nodes_meet_in_a_bucket(moto):
    store = f"{moto}/{secrets.token_hex(4)}"
    with meeting_place(store) as place:
        assert asked(place)["store"] is None
        assert report(asked(), place).faults == ()
        storage_at(place).delete("a1")
        (fault,) = report(asked(), place).faults
        assert fault == f"what it writes to {store} does not arrive here"
    assert [*storage_at(store).list()] == []
    assert asked(place)["store"] == f"does not see the store {store}"


def test_a_node_that_failed_or_was_silent_is_unfit():
    lost = type("ActorDiedError", (Exception,), {})("x ip: 10.0.0.7 the node has died")
    assert report_on(NODE, lost, {}, None, Needs()).faults == ("the node was lost (10.0.0.7)",)
    assert "no answer within 60 s" in report_on(NODE, None, {}, None, Needs()).faults


def has_namespaces():
    try:
        return not subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode
    except OSError:
        return False


@pytest.fixture
def apart(tmp_path, head):
    """A store's path at which a second raylet of the cluster has a disk of its own, and how to call
    `harness` beside it."""
    if not has_namespaces():
        pytest.skip("needs root and mount namespaces")
    store = tmp_path / "store"
    store.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = environment_of(head)

    def call(*arguments):
        return subprocess.run(
            [*HARNESS, *arguments, "--address", head.address],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            check=False,
            timeout=200,
        )

    before = ["unshare", "-m", "sh", "-c", f'mount -t tmpfs none {store} && exec "$@"', "sh"]
    with raylet(head, elsewhere, before):
        yield store, call


def test_a_path_that_two_nodes_have_and_do_not_share(apart):
    store, call = apart
    done = call("run", "demo", "--store", str(store), "--only", "*/full")
    *progress, done.stderr = done.stderr.splitlines(keepends=True)
    assert progress[-1] == b"asking 2 nodes for versions, data, devices and the store\n", progress
    said = refused(done)
    assert "this cluster cannot run trials together: " in said
    assert "(127.0.0.2): does not see the store" in said
    assert "another folder has this path there" in said
    assert not list(Path(store).iterdir())

    done = call("doctor", "--store", str(store))
    said = done.stdout.decode()
    assert done.returncode == 3, done.stderr
    assert said.count("node ") == 2
    assert said.endswith("\n2 nodes that may run trials, 1 unfit\n")
    assert said.count("unfit: does not see the store") == said.count("unfit: ") == 1
    done = call("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    last = b"2 nodes that may run trials, none unfit\nno store was looked at: give --store\n"
    assert done.stdout.endswith(last)
