"""Every kind of storage that the contract is tested on."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import subprocess

import pytest

from harness.records.storage import Bucket, Folder
from tests.servers import bucket_on_seaweed


class TwoMounts:
    """One folder as two hosts see it: every operation goes through the other mount."""

    def __init__(self, mounts):
        self.folders = [Folder(mount) for mount in mounts]
        self.address = self.folders[0].address


def _through_either(name):
    def operation(self, *arguments, **options):
        self.folders.reverse()
        return getattr(self.folders[0], name)(*arguments, **options)

    return operation


for _name in (name for name, one in vars(Folder).items() if callable(one) and name[0] != "_"):
    setattr(TwoMounts, _name, _through_either(_name))
TwoMounts.exists = _through_either("exists")


@pytest.fixture(
    params=["folder", "mounts", "moto", pytest.param("seaweedfs", marks=pytest.mark.slow)]
)
def storage(request, tmp_path):
    """An empty storage: a folder, one behind two mounts between which no lock holds, or a prefix of
    its own in a bucket of a real server."""
    if request.param == "folder":
        return Folder(tmp_path / "store")
    if request.param == "mounts":
        return TwoMounts(request.getfixturevalue("mounts"))
    name = {"moto": "moto", "seaweedfs": "seaweed"}[request.param]
    return Bucket(f"{request.getfixturevalue(name)}/{secrets.token_hex(4)}")


@pytest.fixture
def mounts(tmp_path):
    """Two mounts of one folder through a file system in user space, as if of two hosts."""
    if os.geteuid() != 0 or shutil.which("bindfs") is None or not os.path.exists("/dev/fuse"):
        pytest.skip("two mounts of a folder need root, /dev/fuse and Debian's bindfs")
    below = tmp_path / "below"
    below.mkdir()
    with contextlib.ExitStack() as stack:
        made = []
        for name in ("one", "two"):
            mount = tmp_path / name
            mount.mkdir()
            # What another host has changed is seen at once, as an NFS that is asked to does.
            options = "attr_timeout=0,entry_timeout=0"
            subprocess.run(["bindfs", "-o", options, below, mount], check=True)
            stack.callback(subprocess.run, ["umount", "-l", mount], check=True)
            made.append(mount)
        assert not locks_hold(*made)
        yield made


def locks_hold(one, two):
    """Whether a lock that is held through one mount keeps others out at the other."""
    (one / "lock").touch()
    with open(one / "lock") as mine, open(two / "lock") as theirs:
        fcntl.flock(mine, fcntl.LOCK_EX)
        try:
            fcntl.flock(theirs, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            (one / "lock").unlink()
        return False


@pytest.fixture(scope="session")
def seaweed():
    """The address of a bucket on SeaweedFS, from its package on the index."""
    with bucket_on_seaweed() as address:
        yield address
