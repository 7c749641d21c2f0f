"""Marks of drained nodes, as a launch heeds them."""

import os
import time

import pytest

from harness.cli.app import execute
from harness.launch import drain_marks as module
from harness.launch import under_way
from harness.launch.cluster import Node
from harness.launch.drain_marks import DrainMarks, drain_marks
from harness.records.drained import drained_nodes, mark_drained, unmark_drained
from harness.records.store import Store
from tests.launch.fakes import FakeJobs, Watcher, job, tiny
from tests.launch.test_under_way import FakePool, all_of

NODES = [Node("1", 1.0, 0.0, address="10.0.0.1", host="a"),
         Node("2", 1.0, 0.0, address="10.0.0.2", host="b")]  # fmt: skip


def drained(marks):
    return [node.node_id for node in marks.on(NODES) if node.drained]


def test_marks_are_seen_while_a_launch_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOOK_EVERY", 0.01)
    store = Store(tmp_path)
    mark_drained(store, "a")
    with drain_marks(store) as marks:
        assert drained(marks) == ["1"]  # from the beginning
        mark_drained(store, "10.0.0.2")
        unmark_drained(store, "a")
        deadline = time.monotonic() + 20
        while drained(marks) != ["2"]:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_they_hold_while_the_store_fails(tmp_path, monkeypatch):
    store = Store(tmp_path)
    mark_drained(store, "b")
    marks = DrainMarks(store)

    def fail(prefix):
        raise OSError("away")

    monkeypatch.setattr(store.storage, "list", fail)
    marks.look()
    assert drained(marks) == ["2"]


def test_a_launch_waits_for_drained_nodes_for_as_long_as_it_takes(tmp_path, monkeypatch):
    """And says which; without marks it gives such a trial up."""
    monkeypatch.setattr(under_way, "NODES_WAIT", 0.05)
    monkeypatch.setattr(under_way, "SHOW_EVERY", 0.0)
    pool, begun = FakePool(broken=True), time.monotonic()

    def drained_for(wanted):
        pool.broken = time.monotonic() - begun < 1.0
        return ["a (10.0.0.1)"] if pool.broken else []

    pool.drained_for = drained_for
    sink = Watcher()
    ended = all_of(FakeJobs([job(tiny(0))]), pool, tmp_path, sink=sink)
    assert ended == [(0, "completed")]
    said = "waiting: no node has room for 1 CPUs and 0 GPUs but drained ones: a (10.0.0.1)"
    assert said in {snapshot.waits for snapshot in sink.snapshots}
    pool = FakePool(broken=True)
    assert all_of(FakeJobs([job(tiny(1))]), pool, tmp_path) == [(1, "faulted")]


@pytest.fixture
def said(tmp_path, capsys):
    """Calls `harness cluster drain` on a store: exit code and what was printed."""
    (tmp_path / "store").mkdir()

    def call(*arguments):
        code = execute(["cluster", "drain", *arguments, "--store", str(tmp_path / "store")])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return call


def test_the_command_marks_nodes_and_takes_marks_away(said, tmp_path):
    store, here = Store(tmp_path / "store"), os.uname().nodename
    assert said("b", "10.0.0.9") == (0, "b is drained\n10.0.0.9 is drained\n")
    assert said("b") == (0, "b was drained already\n")
    assert said() == (0, f"{here} is drained\n")
    assert set(drained_nodes(store)) == {"b", "10.0.0.9", here}
    assert said("--undo", "b") == (0, "b takes trials again\n")
    assert said("--undo", "b") == (0, "b was not drained\n")
    assert said("--undo") == (0, f"{here} takes trials again\n")
    assert set(drained_nodes(store)) == {"10.0.0.9"}


def test_what_the_command_refuses(said, tmp_path):
    code, text = said("a", "--wait")
    assert (code, text.count("\n")) == (2, 1)
    assert "--wait and --seconds are for this machine and Ray's own drain" in text
    code, text = said("a/b")
    assert (code, text.count("\n")) == (2, 1)
    (tmp_path / "store").rmdir()
    assert said("a") == (2, f"harness: there is no store {tmp_path / 'store'}\n")
    assert not list(tmp_path.iterdir())
