"""What a launch notes of itself in the store, and that nothing of it holds the launch up."""

import contextlib
import errno
import json
import threading
import time

import pytest

from harness.launch import Interrupted, Lost, Outcome
from harness.launch.cluster import Node
from harness.launch.progress import Ended, Running, Several, Snapshot
from harness.launch.under_way import Launch
from harness.launch.watch.journal import Journal, noted
from harness.launch.watch.note import FAILURES, LaunchNote
from harness.records.index import read_index
from harness.records.launch_notes import read_notes
from harness.records.storage import Folder
from harness.records.store import Store
from harness.training.host.stops import Signals
from tests.launch.fakes import FakeJobs, Watcher, job, tiny
from tests.launch.test_under_way import FakePool
from tests.records.conftest import end

FACTS = {"launch": "one", "command": "harness run demo", "address": "local"}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def the_note(store):
    (stored,) = read_notes(store, "demo")
    return LaunchNote.model_validate_json(stored.data)


class Nodes(FakePool):
    """A pool whose worker is on a node, has reported, and began ten seconds ago."""

    def __init__(self, *given):
        super().__init__(*given)
        self.nodes = [Node("n1", 4, 1.0, "gpu-7")]

    def start(self, slot, job, *rest, **named):
        slot.job = job
        self.busy.append(slot)
        slot.node_id, slot.answered, slot.since = "n1", True, time.monotonic() - 10
        slot.cpus, slot.gpus = job.cpus, job.gpus
        slot.told = {"step": 50, "steps": 100, "first_step": 0, "metric": float("nan")}


def test_a_note_tells_where_a_launch_stands(store):
    """Of trials that run, have failed or were tried again, and what all of them have cost."""
    jobs = FakeJobs([job(tiny(seed), cpus=2, gpus=0.5) for seed in range(3)], [job(tiny(9))])
    pool, seen = Nodes({0: ["fault", "completed"], 1: ["diverged"], 2: ["completed"]}), []
    with noted(store, "demo", before=4, **FACTS) as journal:
        journal.begin()

        def look(snapshot):
            if snapshot.running:
                seen.append(journal.note.with_snapshot(snapshot, time.time()))

        sink = Several(Watcher(look), journal)
        Launch(pool, jobs, store.address, 3, sink, Signals()).all(jobs.ready())
    running = seen[-1].running[0]
    assert (running.node, running.step, running.steps, running.cpus) == ("gpu-7", 50, 100, 2)
    assert running.rate == pytest.approx(5.0, rel=0.01)
    assert running.left == pytest.approx(10.0, rel=0.01)
    assert running.since == pytest.approx(time.time() - 10, abs=2)
    note = the_note(store)
    assert (note.state, note.before, note.retries) == ("done", 4, 1)
    assert note.counts == {"completed": 2, "diverged": 1}
    assert [(one.seed, one.status, one.message) for one in note.failures] == [
        (1, "diverged", "said so")
    ]
    # Four attempts of ten seconds on half a GPU and two CPUs.
    assert 3600 * note.gpu_hours == pytest.approx(4 * 10 * 0.5, rel=0.05)
    assert 3600 * note.cpu_hours == pytest.approx(4 * 10 * 2, rel=0.05)


def test_its_size_does_not_grow_with_the_trials_that_have_ended(store):
    def size(count):
        ended = tuple(
            Ended(f"{k:016x}", "digits full", 0, Outcome("failed", "no such thing", 1.0))
            for k in range(count)
        )
        note = Journal(store, "demo", **FACTS).note.with_snapshot(
            Snapshot(ended, (), 0, 1.0, None), 0.0
        )
        return len(note.model_dump_json())

    assert size(10_000) < size(FAILURES) + 100


ENDS = {
    "done": None,
    "interrupted": Interrupted([(job(tiny()), Outcome("completed", None, 1.0))]),
    "lost": Lost([]),
    "failed": ValueError("postgresql://me:secret@host refuses"),
}


@pytest.mark.parametrize("state", ENDS)
def test_it_says_how_a_launch_ended(store, state):
    snapshot = Snapshot((), (Running("a", "digits", 0, 1.0),), 0, 1.0, 5.0)
    with contextlib.suppress(Interrupted, ValueError), noted(store, "demo", **FACTS) as journal:
        journal.begin()
        journal.update(snapshot)
        if ENDS[state]:
            raise ENDS[state]
    note = the_note(store)
    assert (note.state, note.running, note.left) == (state, (), None)
    assert note.counts == ({"completed": 1} if state == "interrupted" else {})
    assert ("secret" in str(note.message), "refuses" in str(note.message)) == (
        False, state == "failed",
    )  # fmt: skip
    assert note.written >= note.begun


def test_a_launch_that_is_refused_leaves_nothing(store):
    with pytest.raises(ValueError, match="no cluster"), noted(store, "demo", **FACTS):
        raise ValueError("no cluster")
    assert not list(store.root.iterdir())


def test_notes_that_fail_are_told_in_one_line_and_come_back(store, monkeypatch, capsys):
    write, full = Folder.write, threading.Event()
    full.set()
    tries = []

    def failing(self, file, data, durable=True):
        tries.append(file)
        if full.is_set():
            raise OSError(errno.ENOSPC, "No space left on device", file)
        write(self, file, data, durable)

    monkeypatch.setattr(Folder, "write", failing)
    with noted(store, "demo", every=0.001, **FACTS) as journal:
        journal.begin()
        while len(tries) < 5:
            time.sleep(0.001)
        full.clear()
    assert capsys.readouterr().err == (
        "harness: harness status will not know of this launch: suites/demo/launches/one.json: "
        "No space left on device\n"
    )
    assert the_note(store).state == "done"


def test_a_store_that_hangs_does_not_hold_the_launch(store, monkeypatch):
    free = threading.Event()
    monkeypatch.setattr(Folder, "write", lambda *_, **__: free.wait(60))
    monkeypatch.setattr("harness.launch.watch.journal.LAST_WAIT", 0.05)
    jobs = FakeJobs([job(tiny(0))])
    with noted(store, "demo", **FACTS) as journal:
        journal.begin()
        Launch(Nodes(), jobs, store.address, 0, journal, Signals()).all(jobs.ready())
    assert journal.thread.is_alive()
    free.set()
    journal.thread.join()


def test_a_note_is_plain_json(store):
    """A metric that is no number is null, since JSON has none."""
    with noted(store, "demo", **FACTS) as journal:
        snapshot = Snapshot((), (Running("a", "b", 0, 1.0, metric=float("nan")),), 0, 1.0, None)
        journal.begin()
        journal.update(snapshot)
        said = journal.note.with_snapshot(snapshot, 1.0).model_dump_json()
    assert json.loads(said)["running"][0]["metric"] is None


def test_results_are_in_the_index_before_anybody_collects(store, monkeypatch):
    monkeypatch.setattr("harness.launch.watch.indexer.AT_A_TIME", 2)
    monkeypatch.setattr("harness.launch.watch.indexer.ENOUGH", 2)
    for seed in range(5):
        end(store, f"t{seed}", seed=seed)
    statuses = ("completed", "diverged", "failed", "faulted", "completed")
    ended = tuple(
        Ended(f"t{seed}", "digits", seed, Outcome(status, None, 1.0))
        for seed, status in enumerate(statuses)
    )
    store.trial("t3").wipe()  # the machine failed, so there is no result
    with noted(store, "demo", every=0.001, **FACTS) as journal:
        journal.begin()
        journal.update(Snapshot(ended, (), 0, 1.0, None))
        while journal.indexer.seen < 4:
            time.sleep(0.001)
    copies, segments = read_index(store)
    assert {trial_id for trial_id, _ in copies} == {"t0", "t1", "t2", "t4"}
    assert len(segments) == 2  # written while the launch ran, and at its end
