"""Which workers there are, on a Ray of pretended nodes."""

import re
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from harness import environment
from harness.launch import Job, cluster
from harness.launch import pool as module
from harness.launch.driver import _environment
from harness.launch.pool import Pool
from harness.launch.room import Room
from harness.launch.worker import TrialWorker


class FakeRay:
    """Nodes that a test takes away, and workers that come up and end their jobs as it says."""

    exceptions = SimpleNamespace(RayError=RuntimeError)

    def __init__(self, *nodes):
        self.all = [{"NodeID": str(i), "Resources": n, "Alive": True} for i, n in enumerate(nodes)]
        self.killed = []
        self.values = {}
        self.stopped, self.leaving = [], {}
        state = SimpleNamespace(get_draining_nodes=lambda: self.leaving)
        self._private = SimpleNamespace(state=SimpleNamespace(state=state))

    def nodes(self):
        return self.all

    def wait(self, refs, **_):
        return [ref for ref in refs if ref in self.values], []

    def get(self, ref):
        if isinstance(self.values[ref], Exception):
            raise self.values[ref]
        return self.values[ref]

    def comes_up(self, pool, slot, node_id):
        """The worker's process is there."""
        self.values[slot.where_ref] = node_id
        pool.wait(0)

    def ends(self, pool, slot, *result):
        """The job ends so; what the pool tells of it."""
        self.values[slot.run_ref] = result
        assert slot in pool.wait(0)
        return pool.result(slot)

    def remote(self, _):
        return self

    def options(self, **asked):
        run = SimpleNamespace(remote=lambda *_: object())
        actor = SimpleNamespace(run=run, where=run, asked=asked)
        actor.stop = SimpleNamespace(remote=lambda: self.stopped.append(actor))

        def made(**given):
            actor.given = given
            return actor

        return SimpleNamespace(remote=made)

    def kill(self, actor, no_restart):
        self.killed.append(actor)


def job(name, cpus=1, gpus=0.0, **needs):
    return Job(name, {}, name, cpus, gpus, **needs)


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
    assert again.placed
    pool.look_again()
    assert not again.placed
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


def test_a_job_begins_when_its_worker_is_there():
    ray = FakeRay({"CPU": 1.0})
    pool = Pool(ray)
    slot = started(pool, job("a"))
    pool.wait(0)
    assert slot.run_ref is None
    ray.comes_up(pool, slot, "0")
    assert slot.run_ref is not None
    assert ray.ends(pool, slot, "completed", None) == (job("a"), "completed", None)
    slot.job = job("b")
    pool.start(slot, job("b"), "store", not_before=time.monotonic() + 0.2)
    pool.wait(0)
    assert slot.run_ref is None
    time.sleep(0.2)
    pool.wait(0)
    assert slot.run_ref is not None


def test_a_worker_that_cannot_be_made_ends_its_job():
    ray = FakeRay({"CPU": 1.0})
    pool = Pool(ray)
    slot = started(pool, job("a"))
    ray.values[slot.where_ref] = RuntimeError("gone")
    pool.wait(0)
    assert pool.wait(0) == [slot]
    assert pool.result(slot) == (job("a"), "fault", "RuntimeError: gone")
    assert ray.killed == [slot.actor]


def test_a_free_worker_takes_the_job_of_one_that_is_still_being_made():
    """Ray may never make that one: the place that it was meant for was lost with a node."""
    ray = FakeRay({"CPU": 1.0}, {"CPU": 1.0})
    pool = Pool(ray)
    here, late = started(pool, job("a")), started(pool, job("b"))
    ray.comes_up(pool, here, "0")
    ray.ends(pool, here, "completed", None)
    assert (here.job, late.job) == (job("b"), None)
    assert here.run_ref is not None
    assert started(pool, job("c")) is late  # which may still come up
    ray.ends(pool, here, "completed", None)
    assert (here.job, late.job) == (job("c"), None)


def test_a_job_is_not_given_to_a_worker_on_a_node_that_it_avoids():
    ray = FakeRay({"CPU": 2.0}, {"CPU": 1.0})
    pool = Pool(ray)
    here = started(pool, job("a"))
    ray.comes_up(pool, here, "0")
    there = pool.slot_for(job("b"), {"0"})
    pool.start(there, job("b"), "store")
    assert there.actor.asked["label_selector"] == {"ray.io/node-id": "!in(0)"}
    assert pool.slot_for(job("c"), {"0"}) is None  # node 1 is full
    ray.ends(pool, here, "completed", None)
    assert (here.job, there.job) == (None, job("b"))
    assert pool.slot_for(job("c"), {"1"}) is here


def test_each_node_is_counted_by_itself():
    """Two halves of CPUs free on different nodes hold no worker of their sum."""
    ray = FakeRay({"CPU": 2.0}, {"CPU": 2.0})
    pool = Pool(ray)
    for name, node_id in (("a", "0"), ("b", "1")):
        ray.comes_up(pool, started(pool, job(name)), node_id)
    assert started(pool, job("c", cpus=2)) is None
    assert started(pool, job("d")) is not None


def test_a_worker_that_was_asked_to_stop_takes_no_more():
    ray = FakeRay({"CPU": 1.0})
    pool = Pool(ray)
    slot = started(pool, job("a"))
    ray.comes_up(pool, slot, "0")
    assert ray.ends(pool, slot, "interrupted", None) == (job("a"), "interrupted", None)
    assert pool.slots == []


def test_a_stop_takes_back_what_has_not_begun():
    ray = FakeRay({"CPU": 2.0})
    pool = Pool(ray)
    at_work, _ = started(pool, job("a")), started(pool, job("b"))
    ray.comes_up(pool, at_work, "0")
    pool.ask_to_stop()
    assert pool.busy == [at_work]


def test_trials_on_a_node_that_is_leaving_stop_and_nothing_begins_there():
    ray = FakeRay({"CPU": 2.0}, {"CPU": 1.0})
    pool = Pool(ray)
    at_work, about_to, idle = (started(pool, job(name)) for name in "abc")
    for slot, node_id in ((at_work, "0"), (idle, "1")):
        ray.comes_up(pool, slot, node_id)
    ray.ends(pool, idle, "completed", None)
    assert idle.job == job("b")  # whose own worker was still being made
    ray.ends(pool, idle, "completed", None)
    pool.start(about_to, job("b"), "store")
    ray.leaving = {"0": 1_795_802_251_431}
    assert len(pool.look_again()) == 1
    assert ray.stopped == [at_work.actor]
    assert pool.look_again() == []
    ray.values[about_to.where_ref] = "0"  # it was on its way there
    pool.wait(0)
    assert pool.wait(0) == [about_to]
    assert pool.result(about_to) == (job("b"), "interrupted", None)
    assert ray.ends(pool, at_work, "interrupted", None) == (job("a"), "interrupted", None)
    assert all(slot.node_id != "0" for slot in pool.slots)


def test_a_drained_node_is_left_and_taken_again_when_its_mark_is_gone():
    ray, marks = FakeRay({"CPU": 1.0}, {"CPU": 2.0}), {"1"}

    def living():
        return [replace(one, drained=one.node_id in marks) for one in cluster.nodes(ray)]

    pool = Pool(ray, living=living)
    pool.check(job("c", cpus=2))  # which waits until the mark is gone
    (said,) = pool.look_again()
    assert "is drained by a mark in the store: its trials take a checkpoint" in said
    assert pool.look_again() == []
    assert pool.drained_for(job("c", cpus=2)) == [" ()"]
    here = started(pool, job("a"))
    ray.comes_up(pool, here, "0")
    assert started(pool, job("b")) is None
    assert here.actor.asked.get("label_selector") == {"ray.io/node-id": "!in(1)"}
    marks.clear()
    assert pool.look_again() == ["node  () takes trials again"]
    there = started(pool, job("b"))
    ray.comes_up(pool, there, "1")
    marks.add("1")
    pool.look_again()
    assert ray.stopped == [there.actor]
    assert ray.ends(pool, there, "interrupted", None) == (job("b"), "interrupted", None)
    assert pool.slots == [here]


def test_a_node_that_is_kept_away_for_another_reason_stays_so_without_its_mark():
    ray, marks = FakeRay({"CPU": 1.0}, {"CPU": 1.0}), {"1"}
    pool = Pool(
        ray, living=lambda: [replace(n, drained=n.node_id in marks) for n in cluster.nodes(ray)]
    )
    pool.ban("1")
    assert pool.look_again() == []
    marks.clear()
    assert pool.look_again() == []
    assert pool.banned == {"1"}


def test_a_shape_that_a_lost_node_could_hold_is_not_refused():
    """The launch waits for another such node, as it does for what had begun there."""
    ray = FakeRay({"CPU": 4.0}, {"CPU": 1.0})
    pool = Pool(ray)
    pool.check(job("a", cpus=4))
    del ray.all[0]
    pool.look_again()
    pool.check(job("b", cpus=4))
    with pytest.raises(ValueError, match="asks for 3 CPUs"):
        pool.check(job("c", cpus=3))


GPUS = {"CPU": 4.0, "GPU": 1.0, "memory": 8e9}


def fitting(*nodes, **needs):
    """The ids of the nodes that could hold such a trial."""
    pool, wanted = Pool(FakeRay(*nodes)), job("a", **needs)
    return [node.node_id for node in pool.nodes if Room([node]).take(wanted.shape)]


def test_type_and_memory_are_looked_for_on_each_node():
    nodes = [
        {**GPUS, "accelerator_type:A100": 1.0},
        {**GPUS, "accelerator_type:H100": 1.0, "memory": 64e9},
        {"CPU": 4.0, "memory": 8e9},
    ]
    assert fitting(*nodes) == ["0", "1", "2"]
    assert fitting(*nodes, memory=10**10) == ["1"]
    assert fitting(*nodes, gpus=0.5, accelerator="A100") == ["0"]
    assert fitting(*nodes, gpus=0.5, accelerator="A100", memory=10**10) == []


@pytest.mark.parametrize(
    ("needs", "said"),
    [
        (
            {"gpus": 1.0, "accelerator": "A10O"},
            "1 CPUs and 1 GPUs of type A10O; the 2 nodes have GPUs of type A100, H100 (did you "
            "mean A100?)",
        ),
        ({"gpus": 1.0, "accelerator": "TPU"}, "the 2 nodes have GPUs of type A100, H100"),
        ({"memory": 10**10}, "and 10 GB of memory; the largest of 2 nodes has 4 CPUs and 1 GPUs a"),
    ],
)
def test_what_no_node_has_is_refused_by_name(needs, said):
    nodes = [{**GPUS, f"accelerator_type:{name}": 1.0} for name in ("A100", "H100")]
    with pytest.raises(ValueError, match=re.escape(said)):
        Pool(FakeRay(*nodes)).check(job("a", **needs))


def test_ray_is_asked_for_type_and_memory():
    nodes = {**GPUS, "accelerator_type:A100": 1.0}
    wanted = job("a", gpus=0.5, memory=3 * 10**9, accelerator="A100")
    pool = Pool(FakeRay(nodes))
    slots = [started(pool, wanted) for _ in range(3)]
    assert slots[2] is None  # of the GPU there is no more; and of the memory neither
    asked = slots[0].actor.asked
    assert (asked["memory"], asked["accelerator_type"]) == (3 * 10**9, "A100")
    bundle = {"CPU": 1, "GPU": 0.5, "memory": 3e9, "accelerator_type:A100": 0.001}
    assert wanted.shape.resources() == bundle
    plain = started(Pool(FakeRay({"CPU": 1.0})), job("b")).actor.asked
    assert (plain["memory"], plain["accelerator_type"]) == (None, None)


def test_a_setting_with_a_password_is_no_variable_that_ray_logs(monkeypatch):
    mirror = "https://me:hush@mirror.example"
    settings = {"HARNESS_DATA_MIRROR": mirror, "HARNESS_CHECKPOINT_SECONDS": "5"}
    slot = started(Pool(FakeRay({"CPU": 1}), environment=settings), job("one"))
    variables = slot.actor.asked["runtime_env"]["env_vars"]
    assert variables["HARNESS_CHECKPOINT_SECONDS"] == "5"
    assert "HARNESS_DATA_MIRROR" not in variables
    monkeypatch.setenv("HARNESS_DATA_MIRROR", "")  # so that it is put back afterwards
    TrialWorker(settings=slot.actor.given["settings"])
    assert environment.DATA_MIRROR.get() == mirror


def test_a_node_that_may_be_lost_gets_nothing_until_that_is_known(monkeypatch):
    monkeypatch.setattr(module, "DOUBT", 0.2)
    pool = Pool(FakeRay({"CPU": 1.0}, {"CPU": 1.0}))
    pool.suspect("0", job("a"))
    slot = started(pool, job("b"))
    assert slot.actor.asked["label_selector"] == {"ray.io/node-id": "!in(0)"}
    assert started(pool, job("c")) is None
    time.sleep(0.2)  # it lives
    assert started(pool, job("c")) is not None
    alone = Pool(FakeRay({"CPU": 1.0}))
    alone.suspect("0", job("a"))
    assert started(alone, job("a")) is not None
