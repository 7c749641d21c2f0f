"""Nodes that do not fit together are named before anything runs."""

import shutil
import subprocess
from pathlib import Path

import pytest

from harness.launch import node_check
from harness.launch.cluster import Node
from harness.launch.node_check import _report, described, examine, facts
from harness.records import meeting
from harness.records.meeting import meeting_place
from tests.cli.test_process import HARNESS, refused
from tests.launch.raylets import environment_of, raylet

NODE = Node("a1", 2.0, 0.0, "far (10.0.0.7)")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(meeting, "SEE", 0.2)


def report(here, place=None, **other):
    return _report(None, NODE, {**facts(), "store": None, **other}, here, place)


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
    found = report(facts(), **other)
    assert len(found.faults) == bool(says)
    assert not says or found.faults[0].startswith(says)
    lines = list(described(found))
    assert lines[0] == "node far (10.0.0.7): 2 CPUs, 0 GPUs"
    assert [line for line in lines if "unfit" in line] == [f"  unfit: {f}" for f in found.faults]


def test_a_setting_that_the_driver_gives_to_all_workers_may_differ(monkeypatch):
    other = {"settings": {"HARNESS_CHECKPOINT_SECONDS": "5"}}
    assert report(facts(), **other).faults
    monkeypatch.setenv("HARNESS_CHECKPOINT_SECONDS", "7")
    assert not report(facts(), **other).faults


def test_the_store_is_tried_in_both_directions_and_nothing_stays(tmp_path):
    root = tmp_path / "new" / "store"
    with meeting_place(root) as place:
        assert examine(str(place), "a1")["store"] is None
        assert report(facts(), place).faults == ()
        (place / "a1").unlink()  # it went to another disk
        (fault,) = report(facts(), place).faults
        assert fault == f"what it writes to {root} does not arrive here"
        (place / meeting.HOST).unlink()
        said = examine(str(place), "a1")["store"]
        assert said == f"does not see the store {root}: another folder has this path there"
        shutil.rmtree(root)
        assert examine(str(place), "a1")["store"] == f"does not see the store {root}"
        place.mkdir(parents=True)
    assert not list(tmp_path.iterdir())


def test_the_code_of_a_package_is_known_by_its_files(tmp_path):
    sums = []
    for name, text in (("a", "one"), ("b", "two"), ("c", "one")):
        (tmp_path / name / "below").mkdir(parents=True)
        (tmp_path / name / "below" / "__init__.py").write_text(text)
        (tmp_path / name / "notes.txt").write_text(name)
        sums.append(node_check.code(tmp_path / name))
    assert sums[0] == sums[2] != sums[1]


def test_a_node_that_failed_or_was_silent_is_unfit():
    lost = type("ActorDiedError", (Exception,), {})("x ip: 10.0.0.7 the node has died")
    assert _report(None, NODE, lost, facts(), None).faults == ("the node was lost (10.0.0.7)",)
    assert "no answer within 60 s" in _report(None, NODE, None, facts(), None).faults


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
    assert progress[-1] == b"asking 2 nodes for their versions and the store\n", progress
    said = refused(done)
    assert "this cluster cannot run trials together: " in said
    assert "(127.0.0.2): does not see the store" in said
    assert "another folder has this path there" in said
    assert not list(Path(store).iterdir())

    done = call("doctor", "--store", str(store))
    said = done.stdout.decode()
    assert done.returncode == 3, done.stderr
    assert said.count("node ") == 2
    assert said.count("unfit: does not see the store") == said.count("unfit") == 1
    done = call("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
