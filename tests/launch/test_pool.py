"""Which workers there are, on a Ray of pretended nodes."""

from types import SimpleNamespace

import pytest

from harness.launch import Job
from harness.launch.driver import _environment
from harness.launch.pool import Pool


class FakeRay:
    """Nodes that a test takes away, and workers that do nothing."""

    def __init__(self, *nodes):
        self.all = [{"NodeID": str(i), "Resources": n, "Alive": True} for i, n in enumerate(nodes)]
        self.killed = []

    def nodes(self):
        return self.all

    def wait(self, refs, **_):
        return [], refs

    def remote(self, _):
        return self

    def options(self, **asked):
        run = SimpleNamespace(remote=lambda *_: object())
        actor = SimpleNamespace(run=run, where=run, asked=asked)
        return SimpleNamespace(remote=lambda: actor)

    def kill(self, actor, no_restart):
        self.killed.append(actor)


def job(name, cpus=1, gpus=0.0):
    return Job(name, {}, name, cpus, gpus)


def started(pool, wanted):
    """The slot in which the job was started, or None where there was no place."""
    slot = pool.slot_for(wanted)
    if slot is not None:
        pool.start(slot, wanted, "store")
    return slot


@pytest.mark.parametrize(
    ("limit", "wanted", "fit"),
    [
        (None, job("a"), 4),
        (3, job("a"), 3),
        (None, job("a", cpus=2), 2),
        (None, job("a", gpus=0.25), 4),
        (None, job("a", gpus=0.3), 3),
        (None, job("a", gpus=0.6), 1),
        (None, job("a", gpus=1.0), 1),
    ],
)
def test_as_many_workers_as_fit(limit, wanted, fit):
    pool = Pool(FakeRay({"CPU": 3.0}, {"CPU": 1.0, "GPU": 1.0}), limit)
    if wanted.gpus:
        pool = Pool(FakeRay({"CPU": 4.0, "GPU": 1.0}), limit)
    if wanted.cpus == 2:
        pool = Pool(FakeRay({"CPU": 3.0}, {"CPU": 3.0}), limit)
    slots = [started(pool, wanted) for _ in range(6)]
    assert [slot is not None for slot in slots] == [True] * fit + [False] * (6 - fit)


def test_a_job_gets_the_threads_that_it_asks_for():
    pool = Pool(FakeRay({"CPU": 8.0}), environment={"HARNESS_DATA": "/data"})
    asked = started(pool, job("a", cpus=3)).actor.asked
    variables = asked["runtime_env"]["env_vars"]
    assert (asked["num_cpus"], asked["num_gpus"]) == (3, 0.0)
    assert {variables[f"{name}_NUM_THREADS"] for name in ("OMP", "MKL", "OPENBLAS")} == {"3"}
    assert variables["HARNESS_THREADS"] == "3"
    assert variables["HARNESS_DEVICE"] == "cpu"
    assert variables["HARNESS_DATA"] == "/data"


def test_threads_that_were_asked_for_are_not_those_of_the_cores():
    pool = Pool(FakeRay({"CPU": 8.0, "GPU": 1.0}), environment={"HARNESS_THREADS": "2"})
    for wanted in (job("a", cpus=3), job("b", cpus=4, gpus=1.0)):
        asked = started(pool, wanted).actor.asked
        variables = asked["runtime_env"]["env_vars"]
        assert asked["num_cpus"] == wanted.cpus
        names = (*(f"{name}_NUM_THREADS" for name in ("OMP", "MKL", "OPENBLAS")), "HARNESS_THREADS")
        assert {variables[name] for name in names} == {"2"}


def test_the_threads_of_the_caller_go_to_the_workers(monkeypatch):
    monkeypatch.setenv("HARNESS_THREADS", "2")
    assert _environment("HOST:1", None)["HARNESS_THREADS"] == "2"


def test_a_warm_worker_is_used_again_and_one_of_another_shape_makes_place():
    ray = FakeRay({"CPU": 2.0})
    pool = Pool(ray)
    first = started(pool, job("a"))
    first.job = None
    assert started(pool, job("b")) is first
    first.job = None
    large = started(pool, job("c", cpus=2))
    assert large is not first
    assert ray.killed == [first.actor]


def test_idle_workers_make_place_for_what_a_lost_node_held():
    ray = FakeRay({"CPU": 1.0}, {"CPU": 1.0})
    pool = Pool(ray)
    here, there = started(pool, job("a")), started(pool, job("b"))
    pool.discard(there)  # its node is lost, which nobody has noticed yet
    again = started(pool, job("b"))
    assert again is not None
    del ray.all[1]
    pool.look_again()
    assert here in pool.slots  # still at work
    here.job = None
    pool.look_again()
    assert pool.slots == [again]
    assert ray.killed == [there.actor, here.actor]


def test_a_node_that_comes_is_used():
    ray = FakeRay({"CPU": 1.0})
    pool = Pool(ray)
    started(pool, job("a"))
    assert started(pool, job("b")) is None
    ray.all.append({"NodeID": "new", "Resources": {"CPU": 1.0}, "Alive": True})
    pool.look_again()
    assert started(pool, job("b")) is not None


def test_without_a_living_node_everything_is_refused():
    ray = FakeRay({"CPU": 1.0})
    ray.all[0]["Alive"] = False
    with pytest.raises(ValueError, match="the largest of 0 nodes has 0 CPUs and 0 GPUs"):
        Pool(ray).check(job("a"))
