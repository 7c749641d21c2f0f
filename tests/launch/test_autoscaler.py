"""What the cluster's autoscaler is asked for, and what is made of its answers."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from types import SimpleNamespace

import psutil
import pytest

from harness.launch import autoscaler as module
from harness.launch.autoscaler import Autoscaler, Report, asking
from harness.launch.cluster import Node
from harness.launch.jobs import Lost, Shape
from harness.launch.local.folder import private_folder
from harness.launch.pool import Pool
from harness.records.store import Store
from tests.cli.test_process import HARNESS, PATHS
from tests.launch.raylets import LONG_ENOUGH, environment_of
from tests.launch.test_pool import FakeRay, job, started
from tests.launch.test_two_launches import SUITE

SMALL, GPU = Shape(1, 0.0), Shape(2, 0.5)


class Fake:
    """Notes what is asked for; answers with these reports, the last one again and again."""

    def __init__(self, *reports):
        self.asked = []
        self.reports = itertools.chain(reports, itertools.repeat(reports[-1] if reports else None))
        self.real = Autoscaler(self.asked.append, lambda wanted: next(self.reports))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "LOOK_EVERY", 0.001)
    monkeypatch.setattr(module, "PATIENCE", 5.0)


def test_only_changes_are_passed_on_and_in_the_end_nothing_is_wanted():
    fake = Fake()
    fake.real.tell()
    fake.real.wanted = Counter({SMALL: 2, GPU: 1})
    fake.real.tell()
    fake.real.tell()
    fake.real.withdraw()
    fake.real.withdraw()
    assert fake.asked == [[{"CPU": 2, "GPU": 0.5}, {"CPU": 1}, {"CPU": 1}], []]


@pytest.mark.parametrize(
    ("reports", "brings"),
    [
        ([Report(1.0, seen=False), Report(2.0, seen=True, pending=True)], True),
        ([Report(float(at), seen=True) for at in range(3)], False),
        ([Report(1.0, seen=True, impossible=True)], False),
    ],
)
def test_what_it_never_starts_is_known_within_seconds(reports, brings):
    fake = Fake(*reports)
    assert fake.real.brings(GPU, lambda: []) == brings
    assert fake.asked[0] == [{"CPU": 2, "GPU": 0.5}]
    assert fake.real.wanted == (Counter({GPU: 1}) if brings else Counter())


def test_one_that_says_nothing_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    assert not Fake(Report(1.0, seen=True)).real.brings(SMALL, lambda: [])


def test_a_node_that_has_come_meanwhile_will_do():
    assert Fake(Report()).real.brings(SMALL, lambda: [Node("new", 1.0, 0.0)])


def test_a_job_that_it_can_bring_a_node_for_is_taken_and_another_refused():
    fake = Fake(Report(1.0, seen=True, pending=True))
    pool = Pool(FakeRay({"CPU": 1.0}), autoscaler=fake.real)
    pool.check(job("a", gpus=1.0))
    pool.check(job("b", gpus=1.0))
    assert len(fake.asked) == 1
    fake.real.report = lambda wanted: Report(1.0, impossible=True)
    with pytest.raises(ValueError, match="1 CPUs and 0 GPUs, and the autoscaler starts none for i"):
        pool.check(job("c", cpus=64))


@pytest.mark.parametrize(("limit", "wanted"), [(None, 5), (3, 3)])
def test_what_waits_is_wanted_up_to_the_limit(limit, wanted):
    fake = Fake()
    pool = Pool(FakeRay({"CPU": 1.0}), limit, autoscaler=fake.real)
    assert started(pool, job("a"))
    pool.want([job(name) for name in "bcde"])
    assert fake.real.wanted == {SMALL: wanted}


def status(types, pending=(), demands=()):
    return {
        "time": 5.0,
        "autoscaler_report": {"node_type_mapping": types, "pending_launches": dict(pending)},
        "load_metrics_report": {"request_demand": [list(one) for one in demands]},
    }


def test_the_first_autoscaler_as_it_tells():
    assert module.scales_first(status({"10.0.0.1": "ray.head.default"}))
    # On a cluster that others have started, Ray's monitor only reports.
    assert not module.scales_first(status({"10.0.0.1": "node_a1b2"}))
    assert not module.scales_first({})
    wanted = [{"CPU": 1, "GPU": 0.5}]
    told = status({}, {"gpu": 2}, [({"CPU": 1, "GPU": 0.5}, 3)])
    assert module.report_first(told, wanted) == Report(5.0, seen=True, pending=True)
    assert module.report_first(status({}), wanted) == Report(5.0)
    assert module.report_first({}, wanted) == Report()


def test_the_second_autoscaler_as_it_tells():
    from ray.core.generated import autoscaler_pb2 as protocol

    told = protocol.GetClusterStatusReply()
    assert not module.scales_second(told)
    told.cluster_resource_state.node_states.add(ray_node_type_name="gpu")
    assert module.scales_second(told)
    told.autoscaling_state.autoscaler_state_version = 7
    assert module.report_second(told) == Report(7, seen=True)
    told.autoscaling_state.pending_instances.add()
    assert module.report_second(told).pending
    told.autoscaling_state.infeasible_cluster_resource_constraints.add()
    assert module.report_second(told).impossible


def test_a_lost_head_is_not_told_that_nothing_is_wanted(monkeypatch):
    fake = Fake()
    fake.real.wanted = Counter({SMALL: 1})
    fake.real.tell()
    monkeypatch.setattr(module, "find", lambda ray, address: fake.real)
    with pytest.raises(Lost), asking(None, "HOST:1"):
        raise Lost([])
    assert len(fake.asked) == 1
    with pytest.raises(ValueError, match="no"), asking(None, "HOST:1"):
        raise ValueError("no")
    assert fake.asked[1:] == [[]]


GROWING = {
    "cluster_name": "growing",
    "max_workers": 2,
    "idle_timeout_minutes": 5,
    "provider": {"type": "fake_multinode"},
    "head_node_type": "ray.head.default",
    "available_node_types": {
        "small": {
            "resources": {"CPU": 1, "object_store_memory": 80 * 2**20},
            "node_config": {},
            "max_workers": 2,
        },
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
    },
    "auth": {},
    "docker": {},
    "file_mounts": {},
    "cluster_synced_files": [],
    "file_mounts_sync_continuously": False,
    "rsync_exclude": [],
    "rsync_filter": [],
    "initialization_commands": [],
    "setup_commands": [],
    "head_setup_commands": [],
    "worker_setup_commands": [],
    "head_start_ray_commands": [],
    "worker_start_ray_commands": [],
}


@pytest.fixture
def growing(tmp_path):
    """A head without CPUs whose autoscaler starts nodes of one CPU, as raylets on this machine: its
    address, and the variables of whoever joins it."""
    folder = private_folder()
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    from ray.util import get_node_ip_address

    address = f"{get_node_ip_address()}:{port}"
    GROWING["provider"]["gcs_address"] = address
    (tmp_path / "growing.json").write_text(json.dumps(GROWING))
    variables = {
        "RAY_TMPDIR": str(folder),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_FAKE_CLUSTER": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    }
    options = ["--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false", "--block"]
    options += ["--object-store-memory=80000000", f"--autoscaling-config={tmp_path}/growing.json"]
    log = tmp_path / "head.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", *options],
            env={**os.environ, **variables, "PYTHONPATH": PATHS},
            stdout=stream,
            stderr=stream,
        )
    try:
        deadline = time.monotonic() + LONG_ENOUGH
        while "Ray runtime started" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield SimpleNamespace(address=address, variables=variables)
    finally:
        for one in [*psutil.Process(process.pid).children(recursive=True), process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait()


@pytest.mark.slow
def test_a_cluster_without_workers_grows_for_a_run(tmp_path, growing):
    (tmp_path / "shared.py").write_text(SUITE)

    def run(*options):
        where = ["--store", "store", "--address", growing.address]
        return subprocess.run(
            [*HARNESS, "run", "shared.py", *where, *options],
            cwd=tmp_path,
            env=environment_of(growing, HARNESS_DEVICE="cpu"),
            capture_output=True,
            text=True,
            check=False,
            timeout=500,
        )

    refused = run("--cpus", "64")
    assert refused.returncode == 2
    assert "64 CPUs" in refused.stderr
    assert "and the autoscaler starts none for it" in refused.stderr.splitlines()[-1]
    assert not (tmp_path / "store" / "trials").exists()
    done = run()
    assert done.returncode == 0, done.stderr
    assert len(Store(tmp_path / "store").ended_trials()) == 9
