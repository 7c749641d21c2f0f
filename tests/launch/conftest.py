"""One small Ray for all tests of this folder: one node with two CPUs and a pretended GPU."""

from __future__ import annotations

import pytest


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
