"""Machines that are taken away with a notice: trials take a checkpoint and go on elsewhere."""

import contextlib
import signal
import subprocess
import time

import pytest

from harness.launch import head_watch, launch, under_way
from harness.launch.drain import drain, is_idle
from harness.launch.watch.status import Watch
from harness.records.drained import mark_drained, unmark_drained
from harness.records.store import Store
from harness.suite import load
from harness.training.trial import run_trial
from tests.cli.test_process import HARNESS
from tests.launch.fakes import FakeJobs, Watcher, job, tiny
from tests.launch.raylets import environment_of, raylet
from tests.launch.test_launch import trial_workers
from tests.training.trials import assert_same

STEPS = 2000  # some seconds


@pytest.fixture(autouse=True)
def only_asked(monkeypatch):
    """No checkpoint but the one that is asked for."""
    monkeypatch.setenv("HARNESS_DEVICE", "cpu")
    monkeypatch.setenv("HARNESS_CHECKPOINT_SECONDS", "3600")


def assert_moved(folder, trials):
    """These went on from a checkpoint, as if undisturbed, and that was no failure."""
    store, alone = Store(folder / "store"), Store(folder / "alone")
    for trial in trials:
        run_trial(trial, alone)
        assert_same(store, alone, trial.trial_id)
        record = store.trial(trial.trial_id).result()["record"]
        assert (record["restarts"], store.trial(trial.trial_id).failure()) == (1, None)
        assert record["flops_spent"] == record["train_flops"]  # no step was taken twice


def test_sigterm_to_a_worker_moves_its_trial(tmp_path, ray_address):
    told = []

    def tell(snapshot):
        if not told and any(trial.step for trial in snapshot.running):
            (worker,) = trial_workers()
            worker.send_signal(signal.SIGTERM)
            told.append(worker)

    (tmp_path / "store").mkdir()
    trial = tiny(0, STEPS)
    ((_, outcome),) = launch(
        FakeJobs([job(trial)]),
        tmp_path / "store",
        address=ray_address,
        retries=0,
        progress=Watcher(tell),
    )
    assert (outcome.status, outcome.message) == ("completed", None)
    assert len(told) == 1
    assert_moved(tmp_path, [trial])


class Leaving:
    """Drains a node once all trials are under way, and notes when it is idle."""

    def __init__(self, address, node_id):
        self.address, self.node_id = address, node_id
        self.drained = self.idle = None

    def __call__(self, snapshot):
        import ray

        if self.drained is None and sum(bool(one.step) for one in snapshot.running) == 3:
            drain(ray, self.node_id, 600)
            self.drained = time.monotonic()
        elif self.drained and self.idle is None and is_idle(ray, self.node_id):
            self.idle = time.monotonic()


@pytest.mark.slow
def test_a_node_that_is_leaving_is_left_within_seconds(tmp_path, ray_cluster, monkeypatch):
    """One trial of three was there; it does not wait for the node's end."""
    monkeypatch.setattr(head_watch, "ASK_EVERY", 0.5)
    monkeypatch.setattr(under_way, "NODES_EVERY", 0.5)
    node = ray_cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    (tmp_path / "store").mkdir()
    trials = [tiny(seed, STEPS) for seed in range(3)]
    leaving = Leaving(ray_cluster.address, node.node_id)
    sink = Watcher(leaving)
    try:
        ended = launch(
            FakeJobs([job(trial) for trial in trials]),
            tmp_path / "store",
            address=ray_cluster.address,
            retries=0,
            progress=sink,
        )
    finally:
        ray_cluster.remove_node(node)
    assert [outcome.status for _, outcome in ended] == ["completed"] * 3
    (said,) = [one for one in sink.said if "is about to go" in one]
    assert said.endswith("its trials take a checkpoint and go on elsewhere")
    assert leaving.idle - leaving.drained < 10
    records = [Store(tmp_path / "store").trial(one.trial_id).result()["record"] for one in trials]
    moved = [one for one, record in zip(trials, records, strict=True) if record["restarts"]]
    assert len(moved) == 1
    assert_moved(tmp_path, moved)


SUITE = f"""
from harness.suite import *

suite = Suite(
    name="moved",
    comparisons=(
        Comparison(
            task=TaskSpec(name="digits"),
            model=LRUSpec(blocks=1, width=4, state_dim=4),
            training=TrainingSpec(steps={4 * STEPS}),
            arms={{"full": FullSpec(kind="full")}},
            seeds=(0, 1),
        ),
    ),
)
"""


def is_under_way(store, address):
    """Whether the driver has noted that a trial runs on the node of this address."""
    try:
        found = Watch(store).look()
    except ValueError:  # there is no note yet
        return False
    running = [trial for launch in found for trial in launch.note.running]
    return any(one.state == "running" and f"({address})" in one.node for one in running)


@contextlib.contextmanager
def running(tmp_path, head):
    """A run of the suite with a trial under way on a second machine, at 127.0.0.2: the machine, the
    run, and where it prints."""
    (tmp_path / "moved.py").write_text(SUITE)
    log = tmp_path / "run.log"
    with raylet(head, tmp_path) as machine, log.open("w") as stream:
        run = subprocess.Popen(
            [*HARNESS, "run", "moved.py", "--store", "store", "--address", head.address],
            cwd=tmp_path,
            env=environment_of(head, HARNESS_DEVICE="cpu", HARNESS_CHECKPOINT_SECONDS="3600"),
            stdout=stream,
            stderr=stream,
        )
        try:
            deadline = time.monotonic() + 240
            while not is_under_way(Store(tmp_path / "store"), "127.0.0.2"):
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.5)
            yield machine, run, log
        finally:
            run.kill()
            run.wait()


def assert_one_moved(folder, log):
    suite = load(str(folder / "moved.py"))
    trials = [role.trial.resolved() for role in suite.roles()]
    store = Store(folder / "store")
    records = [store.trial(one.trial_id).result()["record"] for one in trials]
    moved = [one for one, record in zip(trials, records, strict=True) if record["restarts"]]
    assert len(moved) == 1, log.read_text()
    assert_moved(folder, moved)


@pytest.mark.slow
def test_sigterm_to_a_machine_moves_its_trial(tmp_path, head):
    """It comes to `ray start`, as from systemd, Slurm or Kubernetes."""
    with running(tmp_path, head) as (machine, run, log):
        machine.terminate()
        machine.wait(60)
        assert "is about to go: its trials take a checkpoint" in log.read_text()
        assert run.wait(400) == 0, log.read_text()
    assert_one_moved(tmp_path, log)


@pytest.mark.slow
def test_a_mark_in_the_store_moves_trials_until_it_is_removed(tmp_path, head):
    store = Store(tmp_path / "store")
    with running(tmp_path, head) as (_, run, log):
        mark_drained(store, "127.0.0.2")
        begun = time.monotonic()
        (worker,) = [w for w in trial_workers() if "127.0.0.2" in " ".join(w.parent().cmdline())]
        worker.wait(60)
        assert time.monotonic() - begun < 15
        assert "(127.0.0.2) is drained by a mark in the store: its trials" in log.read_text()
        unmark_drained(store, "127.0.0.2")
        deadline = time.monotonic() + 60
        while "(127.0.0.2) takes trials again" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        assert run.wait(400) == 0, log.read_text()
    assert_one_moved(tmp_path, log)
