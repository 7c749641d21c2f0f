"""Nodes that fail by their own fault get no more trials."""

import subprocess

import pytest

from harness.launch.pool import Pool
from harness.launch.quarantine import Quarantine
from harness.launch.under_way import Launch
from harness.records.store import Store
from harness.training.host.stops import Signals
from tests.cli.test_process import HARNESS
from tests.launch.fakes import FakeJobs, Watcher, tiny
from tests.launch.fakes import job as tiny_job
from tests.launch.raylets import environment_of, raylet
from tests.launch.test_pool import FakeRay, job, started
from tests.launch.test_two_launches import SUITE
from tests.launch.test_under_way import FakePool

UNFIT = "no worker can start on node far: ImportError: no libcuda"
MEMORY = "Ray ended the worker on node 1, whose memory was used up; fewer trials at a time"


@pytest.fixture
def pool():
    return Pool(FakeRay({"CPU": 1.0}, {"CPU": 1.0}))


def placed(pool, wanted, node_id):
    slot = started(pool, wanted)
    slot.node_id = node_id
    return slot


@pytest.mark.parametrize(
    ("ends", "kept_away"),
    [
        ([("refused", UNFIT, 1.0)], True),
        ([("fault", UNFIT, 100.0)], True),
        ([("fault", "disk full", 1.0)], False),
        ([("fault", "disk full", 1.0), ("fault", "disk full", 2.0)], True),
        ([("fault", "disk full", 1.0), ("fault", "disk full", 60.0)], False),
        ([("fault", "disk full", 1.0), ("refused", "no such backend", 2.0)], False),
        ([("fault", "disk full", 1.0), ("completed", None, 2.0)], False),
        ([("fault", MEMORY, 1.0), ("fault", MEMORY, 1.0)], False),
        ([("fault", "the worker cannot be reached: x", 1.0)] * 2, False),
        ([("fault", "the node was lost (1)", 1.0), ("fault", "the node was lost (1)", 1.0)], False),
    ],
)
def test_a_node_is_judged_by_its_own_faults(pool, ends, kept_away):
    held = Quarantine(pool)
    said = [
        held.judge(placed(pool, job(name), "1"), job(name), status, message or "", seconds)
        for name, (status, message, seconds) in zip("ab", ends, strict=False)
    ]
    assert [one is not None for one in said] == [False] * (len(ends) - 1) + [kept_away]
    assert pool.banned == ({"1"} if kept_away else set())


def test_one_trial_that_fails_twice_says_nothing_about_a_node(pool):
    held = Quarantine(pool)
    for _ in range(3):
        assert held.judge(placed(pool, job("a"), "1"), job("a"), "fault", "died", 1.0) is None
        pool.discard(pool.slots[0])


def test_the_last_node_is_kept(pool):
    held = Quarantine(pool)
    for node_id in ("1", "0"):
        slot = placed(pool, job(node_id), node_id)
        assert held.excuses(slot, job(node_id), "refused", UNFIT) == (node_id == "1")
        held.judge(slot, job(node_id), "refused", UNFIT, 1.0)
    assert pool.banned == {"1"}
    # A worker of a node that was kept away meanwhile fails as well: that is no attempt either.
    assert held.excuses(slot, job("c"), "refused", UNFIT) is False
    slot.node_id = "1"
    assert held.excuses(slot, job("c"), "refused", UNFIT) is True


def test_workers_go_elsewhere(pool):
    idle, at_work = placed(pool, job("a"), "1"), placed(pool, job("b"), "0")
    idle.job = None
    pool.ban("1")
    assert pool.slots == [at_work]
    assert started(pool, job("c")) is None  # the other node is full
    at_work.job = None
    pool.discard(at_work)
    slot = started(pool, job("c"))
    assert slot.actor.asked["label_selector"] == {"ray.io/node-id": "!in(1)"}
    pool.look_again()
    assert [node.node_id for node in pool.nodes] == ["0"]


class Nodes(FakePool):
    """Node `bad` gets trials first, and cannot make workers."""

    def __init__(self, statuses):
        super().__init__(statuses)
        self.banned = set()

    def can_spare(self, node_id, job):
        return node_id == "bad"

    def ban(self, node_id):
        self.banned = {node_id}
        return node_id

    def result(self, slot):
        slot.node_id = "good" if self.banned else "bad"
        if slot.node_id == "good":
            return super().result(slot)
        self.busy.remove(slot)
        return slot.job, "refused", UNFIT


def test_a_trial_without_a_worker_is_run_elsewhere_and_that_is_no_attempt(tmp_path):
    jobs, sink = FakeJobs([tiny_job(tiny(0))]), Watcher()
    launch = Launch(Nodes({0: "fault"}), jobs, tmp_path, 0, sink, Signals())
    ((_, outcome),) = launch.all(jobs.ready())
    assert (outcome.status, outcome.message) == ("faulted", "said so (attempt 1 of 1)")
    assert sink.said == [f"node bad gets no more trials: {UNFIT}"]


@pytest.mark.slow
def test_a_node_whose_torch_is_broken(tmp_path, head):
    """It passes the check of versions, and fails to make a worker."""
    (tmp_path / "shared.py").write_text(SUITE)
    stub = tmp_path / "stub"
    (stub / "torch").mkdir(parents=True)
    (stub / "torch" / "__init__.py").write_text("raise ImportError('no libcuda here')\n")
    environment = environment_of(head)
    paths = f"{stub}:{environment['PYTHONPATH']}"
    before = ["env", f"PYTHONPATH={paths}"]
    with raylet(head, tmp_path, before):
        done = subprocess.run(
            [*HARNESS, "run", "shared.py", "--store", "store", "--address", head.address],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )
    assert done.returncode == 0, done.stderr
    assert "logging.cc" not in done.stderr
    (line,) = [one for one in done.stderr.splitlines() if "gets no more trials" in one]
    assert "(127.0.0.2) gets no more trials: no worker can start on node" in line
    assert "ImportError: no libcuda here" in line
    assert len(Store(tmp_path / "store").ended_trials()) == 9
