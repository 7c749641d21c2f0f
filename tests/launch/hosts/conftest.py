"""Hosts in namespaces, or the reason why there are none; and an undisturbed run of the suite."""

import os
import shutil

import pytest

from .cluster import RayCluster
from .machines import lacks, site
from .outcome import PACE, run_undisturbed


@pytest.fixture
def hosts():
    """A site without hosts; what is added to it ends with the test."""
    reason = lacks()
    if reason:
        pytest.skip(reason)
    with site() as made:
        yield made


@pytest.fixture
def cluster(hosts):
    """A head and two workers. A paced trial waits 8 s altogether."""
    return RayCluster(hosts, 2, **{PACE: "0.2"})


@pytest.fixture
def cluster_with_a_spare(hosts):
    """A head and three workers, of which a run uses two at a time. A paced trial waits 40 s, which
    is longer than it takes to notice a lost host."""
    return RayCluster(hosts, 3, **{PACE: "1"})


@pytest.fixture
def hosts_without_locks(hosts):
    """A site whose hosts have a mount each of the shared folder."""
    if shutil.which("bindfs") is None or not os.path.exists("/dev/fuse"):
        pytest.skip("a mount for each host needs /dev/fuse and Debian's bindfs")
    hosts.is_fuse = True
    return hosts


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_DEVICE", "cpu")
        return run_undisturbed(tmp_path_factory.mktemp("undisturbed"))
