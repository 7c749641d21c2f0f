"""Parts of a suite without Ray: what each runs, what it waits for, and what it leaves."""

import socket
import time

import pytest

from harness.cli import app as cli
from harness.launch.drain_marks import drain_marks
from harness.launch.shard import Part, run_shard
from harness.planning.plan import Plan
from harness.records.drained import mark_drained, unmark_drained
from harness.records.lease import Busy
from harness.records.store import Store
from harness.suite import load, override
from tests.cli.conftest import TINY


@pytest.fixture
def suite(tmp_path, monkeypatch):
    """A suite whose `small` of one seed takes its sizes from both seeds of `in_training`."""
    monkeypatch.setenv("HARNESS_DEVICE", "cpu")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.py").write_text(TINY)
    return override(load("tiny.py"), ["training.steps=8", "training.evaluate_every=4"])


def results(suite, store):
    """Test metric and kept sizes of every row that has ended, by name and seed."""
    rows = Plan(suite, store).rows
    ended = {
        (row.name, row.role.trial.seed): store.trial(row.spec.trial_id).result()
        for row in rows
        if row.spec is not None
    }
    return {
        key: (one["status"], one["record"]["test_metric"], one["record"]["state_dims"])
        for key, one in ended.items()
        if one is not None
    }


def until(holds):
    for _ in range(1000):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come")


def never(seconds):
    raise AssertionError("nothing is left to wait for")


def test_parts_make_together_what_one_makes(tmp_path, suite):
    whole = Store.open(str(tmp_path / "whole"), create=True)
    parted = Store.open(str(tmp_path / "parted"), create=True)
    assert run_shard(suite, whole, Part(1, 1), never) == []
    # The first ends though the second has not begun: it runs what it needs of the second itself.
    assert run_shard(suite, parted, Part(1, 2), never) == []
    assert len(results(suite, parted)) == 5
    assert run_shard(suite, parted, Part(2, 2), never) == []
    assert len(results(suite, whole)) == 8
    assert results(suite, parted) == results(suite, whole)


def test_what_needs_a_failed_trial_is_named_and_not_awaited(tmp_path, suite, monkeypatch):
    def fail(*_):
        raise ValueError("no such data")

    monkeypatch.setattr("harness.launch.shard.run_alone", fail)
    store = Store.open(str(tmp_path / "store"), create=True)

    lines = run_shard(suite, store, Part(1, 8), never)
    assert lines == ["missing digits/full, seed 0: no such data"]
    (line,) = run_shard(suite, store, Part(7, 8), never)
    assert line == "waiting digits/small, seed 0: no such data"


def test_a_trial_that_another_process_runs_is_waited_for(tmp_path, suite, monkeypatch):
    from harness.training.alone import run_alone

    store, tried = Store.open(str(tmp_path / "store"), create=True), []

    def busy_once(spec, *rest):
        tried.append(spec.trial_id)
        if len(tried) == 1:
            raise Busy("trial is being run by another")
        return run_alone(spec, *rest)

    monkeypatch.setattr("harness.launch.shard.run_alone", busy_once)
    waited = []
    assert run_shard(suite, store, Part(1, 8), waited.append) == []
    assert len(waited) == 1
    assert len(set(tried)) == 1


def test_a_drained_node_hands_its_trial_over_and_begins_no_other(
    tmp_path, suite, monkeypatch, capsys
):
    from harness.training.alone import run_alone

    host, begun = socket.gethostname(), []
    store = Store.open(str(tmp_path / "store"), create=True)

    def drained_meanwhile(spec, store, watch, leaves):
        begun.append(spec.trial_id)
        mark_drained(store, host)
        until(leaves)
        return run_alone(spec, store, watch, leaves)

    monkeypatch.setattr("harness.launch.shard.MARKS_EVERY", 0.01)
    with monkeypatch.context() as patch:
        patch.setattr("harness.launch.shard.run_alone", drained_meanwhile)
        assert run_shard(suite, store, Part(1, 8), never) == ["missing digits/full, seed 0"]
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"harness: {host} is drained: part 1/8 ends here, and goes on elsewhere")
    (trial_id,) = begun
    assert store.trial(trial_id).load_checkpoint() is not None

    unmark_drained(store, host)
    assert run_shard(suite, store, Part(1, 8), never) == []
    assert store.trial(trial_id).result()["record"]["restarts"] == 1


@pytest.mark.parametrize("name", ["127.0.0.1", "elsewhere"])
def test_a_node_is_meant_by_any_of_its_addresses(tmp_path, name):
    store = Store.open(str(tmp_path / "store"), create=True)
    mark_drained(store, name)
    with drain_marks(store) as marks:
        assert marks.is_here == (name == "127.0.0.1")


def test_more_parts_than_trials_leave_nothing_to_do(tmp_path, suite):
    store = Store.open(str(tmp_path / "store"), create=True)
    assert run_shard(suite, store, Part(9, 9), never) == []


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "-1/2", "a/b", "1/2/3", "١/٢"])
def test_a_wrong_part_is_one_line_and_writes_nothing(suite, tmp_path, capsys, text):
    words = ["shard", "tiny.py", "--store", str(tmp_path / "store"), "--part", text]
    assert cli.execute(words) == 2
    said = capsys.readouterr().err
    assert said == f"harness: --part takes NUMBER/OF, from 1/OF to OF/OF, not {text!r}\n"
    assert not (tmp_path / "store").exists()


def test_the_verb_says_what_it_ran(suite, tmp_path, capsys):
    words = ["shard", "tiny.py", "--store", str(tmp_path / "store"), "--part", "1/8"]
    assert cli.execute(words) == 0
    assert capsys.readouterr().err == "harness: completed digits/full, seed 0\n"
