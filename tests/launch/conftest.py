"""One small Ray for all tests of this folder: one node with two CPUs and a pretended GPU."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest


@pytest.fixture(scope="session", autouse=True)
def token_mode():
    """Ray reads once, when it is imported, whether it goes with a token: with one, whichever test
    of this folder comes first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        import ray  # noqa: F401


@pytest.fixture(scope="session")
def ray_cluster():
    """A running cluster, as Ray's own tests start one."""
    from harness.launch.local.folder import private_folder

    folder = private_folder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(folder))  # else it leaves a folder in /tmp/ray
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(folder / "token"))
        import ray
        from ray.cluster_utils import Cluster

        ray.shutdown()  # whatever an earlier test of this process was connected to

        settings = {"object_store_memory": 80 * 1024**2, "include_dashboard": False}
        cluster = Cluster(
            initialize_head=True, head_node_args={**settings, "num_cpus": 2, "num_gpus": 1}
        )
        yield cluster
        cluster.shutdown()


@pytest.fixture(scope="session")
def ray_address(ray_cluster):
    """The address of a running cluster, as a user would pass it."""
    return ray_cluster.address


HEAD = """
import os, sys
import psutil
from ray.cluster_utils import Cluster

settings = {"object_store_memory": 80 * 1024**2, "include_dashboard": False}
port = {"gcs_server_port": int(sys.argv[1])} if sys.argv[1:] else {}
cluster = Cluster(initialize_head=True, head_node_args={**settings, **port, "num_cpus": 0})
cluster.add_node(num_cpus=1, **settings)
(gcs,) = [p.pid for p in psutil.Process().children(recursive=True) if p.name() == "gcs_server"]
print(cluster.address, gcs, flush=True)
sys.stdin.read()
os._exit(0)
"""


@pytest.fixture
def heads():
    """Starts clusters of a head without CPUs and a worker's raylet, with one token: each has its
    address, the process of its gcs_server, and the variables of whoever joins it."""
    from harness.launch.local.folder import private_folder

    folder = private_folder()
    variables = {
        "RAY_TMPDIR": str(folder),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
    }
    with contextlib.ExitStack() as stack:

        def start(at=None):
            process = subprocess.Popen(
                [sys.executable, "-c", HEAD, *([] if at is None else [at.rpartition(":")[2]])],
                env={**os.environ, **variables},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            end = stack.callback(_end, process, children := [])
            address, pid = process.stdout.readline().split()
            children += psutil.Process(process.pid).children(recursive=True)
            return SimpleNamespace(
                address=address,
                gcs=int(pid),
                variables=variables,
                end=lambda: end(process, children),
            )

        yield start


def _end(process, children):
    """Kill a cluster, and what its processes have started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        children = [*children, *psutil.Process(process.pid).children(recursive=True)]
    for one in {*children}:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    process.kill()
    process.wait()


@pytest.fixture
def head(heads):
    """One such cluster."""
    return heads()
