"""Launching on a running cluster: order, refusals, faults."""

import contextlib
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import psutil
import pytest

from harness.launch import launch
from harness.launch.resources import Resources
from harness.records.store import Store
from harness.suite import PostHocSpec
from tests.launch.fakes import FakeJobs, Watcher, job, tiny


def run(jobs, store, address, **options):
    options.setdefault("progress", Watcher())
    return launch(jobs, store, address=address, **options)


def result_of(store, trial_id):
    return Store(store).trial(trial_id).result()


def test_a_grid_runs_in_the_order_of_its_stages(tmp_path, ray_address):
    first, second = [job(tiny(s)) for s in range(3)], [job(tiny(s)) for s in (7, 8)]
    jobs, sink, begun = FakeJobs(first, second), Watcher(), []
    outcomes = run(
        jobs, tmp_path, ray_address, progress=sink, begin=lambda: begun.append(len(sink.snapshots))
    )
    assert begun == [0]
    assert [o.status for _, o in outcomes] == ["completed"] * 5
    assert {j.trial_id for j, _ in outcomes[:3]} == {j.trial_id for j in first}
    outs = [i for i, (what, _) in enumerate(jobs.diary) if what == "out"]
    assert outs == [0, 1, 2, 6, 7]
    for j in first + second:
        record = result_of(tmp_path, j.trial_id)["record"]
        assert record["threads"] == 1
        assert record["device_share"] == 1.0
    last = sink.snapshots[-1]
    assert (last.done, last.failed, last.waiting, last.running) == (5, 0, 0, ())
    assert sink.closed == 1
    assert max(len(s.running) for s in sink.snapshots) <= 2


def test_a_trial_that_cannot_begin_fails_and_what_needs_it_is_not_awaited(tmp_path, ray_address):
    late = tiny().model_copy(update={"arm": PostHocSpec(kind="post_hoc", tau=0.1)})
    early, needing = job(late), job(tiny(1))
    sink = Watcher()
    ((ended, outcome),) = run(FakeJobs([early], [needing]), tmp_path, ray_address, progress=sink)
    assert (ended, outcome.status) == (early, "failed")
    assert "which has not been run in this store" in outcome.message
    assert result_of(tmp_path, early.trial_id) is None
    assert sink.snapshots[-1].waiting == 1


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        ({"cpus": 3}, "asks for 3 CPUs and 0 GPUs; the largest of 1 nodes has 2 CPUs and 1 GPUs"),
        ({"gpus": 2.0}, "asks for 1 CPUs and 2 GPUs"),
    ],
)
def test_what_no_node_has_is_refused(tmp_path, ray_address, needs, message):
    begun = []
    with pytest.raises(ValueError, match=message) as refused:
        run(
            FakeJobs([job(tiny(), **needs)]),
            tmp_path,
            ray_address,
            begin=lambda: begun.append("begun"),
        )
    assert "\n" not in str(refused.value)
    assert begun == []
    assert not list(tmp_path.iterdir())


def test_too_many_cpus_are_refused_before_a_local_ray_starts(tmp_path):
    start = time.monotonic()
    with pytest.raises(ValueError, match="asks for 10000 CPUs; this machine has"):
        run(FakeJobs([job(tiny(), cpus=10_000)]), tmp_path, "local")
    assert time.monotonic() - start < 2


def test_a_gpu_holds_no_more_than_one(tmp_path, ray_address, monkeypatch):
    monkeypatch.setenv("HARNESS_DEVICE", "cpu")  # the GPU is a pretended one
    jobs, sink = [job(tiny(seed), gpus=0.6) for seed in (0, 1)], Watcher()
    outcomes = run(FakeJobs(jobs), tmp_path, ray_address, progress=sink)
    assert [o.status for _, o in outcomes] == ["completed"] * 2
    assert max(len(s.running) for s in sink.snapshots) == 1
    records = [result_of(tmp_path, j.trial_id)["record"] for j in jobs]
    assert [(r["device_share"], r["exclusive"]) for r in records] == [(0.6, False)] * 2


def answer_in_another_language(listener):
    connection, _ = listener.accept()
    with connection:
        connection.recv(100)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.mark.parametrize("kind", ["closed", "silent", "other"])
def test_a_dead_address_is_refused_within_seconds(tmp_path, kind):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if kind != "closed":
            listener.listen()
        if kind == "other":
            threading.Thread(target=answer_in_another_language, args=(listener,)).start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        start = time.monotonic()
        with pytest.raises(ValueError, match=f"^no Ray cluster answers at {address}$"):
            run(FakeJobs([job(tiny())]), tmp_path, address)
        assert time.monotonic() - start < 6


def answer_as_http2_and_say_nothing_more(listener, over):
    connections = []
    while not over.is_set():
        with contextlib.suppress(TimeoutError):
            connections.append(listener.accept()[0])
            connections[-1].sendall(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
    for connection in connections:
        connection.close()


def assert_refused_within_seconds(address, tmp_path, capfd):
    start = time.monotonic()
    with pytest.raises(ValueError, match=f"^no Ray cluster answers at {address}$"):
        run(FakeJobs([job(tiny())]), tmp_path, address)
    assert time.monotonic() - start < 9
    assert capfd.readouterr() == ("", "")


def test_a_server_that_stops_after_its_greeting_is_refused(tmp_path, capfd):
    over = threading.Event()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.1)
        answering = threading.Thread(
            target=answer_as_http2_and_say_nothing_more, args=(listener, over)
        )
        answering.start()
        try:
            address = f"127.0.0.1:{listener.getsockname()[1]}"
            assert_refused_within_seconds(address, tmp_path, capfd)
        finally:
            over.set()
            answering.join()


def test_a_grpc_server_that_is_not_ray_is_refused(tmp_path, capfd):
    server = grpc.server(ThreadPoolExecutor(1))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        assert_refused_within_seconds(address, tmp_path, capfd)
    finally:
        server.stop(None).wait()


@pytest.mark.parametrize("address", ["", "nonsense", "host:", "host:port", "http://a:1", "a:99999"])
def test_a_malformed_address_is_refused(tmp_path, address):
    with pytest.raises(ValueError, match="a Ray address is local, auto"):
        run(FakeJobs([job(tiny())]), tmp_path, address)


def trial_workers():
    """Worker processes that hold our actor."""
    children = psutil.Process().children(recursive=True)
    return [p for p in children if "ray::TrialWorker" in " ".join(p.cmdline()[:1])]


class Killer:
    """Kills the workers in every attempt, once that has come from one step to another."""

    def __init__(self):
        self.first, self.killed = {}, set()

    def __call__(self, snapshot):
        for trial in snapshot.running:
            if not trial.step or trial.attempt in self.killed:
                continue
            if trial.step > self.first.setdefault(trial.attempt, trial.step):
                self.killed.add(trial.attempt)
                for process in trial_workers():
                    os.kill(process.pid, signal.SIGKILL)


def test_killed_workers_are_replaced_and_the_trial_resumes_but_not_for_ever(
    tmp_path, ray_address, monkeypatch
):
    monkeypatch.setenv("HARNESS_CHECKPOINT_SECONDS", "0")
    killer, long = Killer(), job(tiny(steps=100_000))
    sink = Watcher(killer)
    (_, outcome), *_ = run(FakeJobs([long]), tmp_path, ray_address, progress=sink, retries=1)
    assert killer.killed == {1, 2}
    assert killer.first[2] > killer.first[1]
    assert outcome.status == "faulted"
    assert "attempt 2 of 2" in outcome.message
    assert sink.snapshots[-1].failed == 1
    folder = Store(tmp_path).trial(long.trial_id)
    assert folder.result() is None
    assert folder.load_checkpoint()[1]["restarts"] == 1
    failure = folder.failure()
    assert failure["attempt"] == 2
    assert failure["message"]


def test_small_trials_share_a_gpu_as_auto_has_chosen(tmp_path, ray_address, monkeypatch):
    """Two at a time on the only GPU (a pretended one), since there are two CPUs."""
    monkeypatch.setenv("HARNESS_DEVICE", "cpu")
    needs = Resources(gpus="auto", gpu_bytes=16 * 2**30)
    shapes = [needs.shape_of(tiny(seed, 300)) for seed in range(3)]
    trials = [tiny(seed, 300) for seed in range(3)]
    jobs = [job(one, gpus=shape.gpus) for one, shape in zip(trials, shapes, strict=True)]
    sink = Watcher()
    outcomes = run(FakeJobs(jobs), tmp_path, ray_address, progress=sink)
    assert [o.status for _, o in outcomes] == ["completed"] * 3
    assert max(sum(t.state != "pending" for t in s.running) for s in sink.snapshots) == 2
    records = [result_of(tmp_path, j.trial_id)["record"] for j in jobs]
    assert [(r["device_share"], r["exclusive"]) for r in records] == [(0.125, False)] * 3


def test_a_type_of_gpu_that_no_node_has_is_refused(tmp_path, ray_address):
    wanted = job(tiny(), gpus=1.0, accelerator="A100")
    with pytest.raises(ValueError, match="the 1 nodes have GPUs of type none"):
        run(FakeJobs([wanted]), tmp_path, ray_address)
    with pytest.raises(ValueError, match="and 900000 GB of memory; the largest of 1 nodes has"):
        run(FakeJobs([job(tiny(), memory=9 * 10**14)]), tmp_path, ray_address)


def test_memory_is_set_aside(tmp_path, ray_address):
    """Two trials that need most of it run one after the other."""
    import ray

    from harness.launch.cluster import connected

    with connected(ray_address, 1):
        most = int(ray.cluster_resources()["memory"] * 0.6)
    sink = Watcher()
    run(FakeJobs([job(tiny(s), memory=most) for s in (0, 1)]), tmp_path, ray_address, progress=sink)
    assert max(len(s.running) for s in sink.snapshots) == 1
