"""The folder of an own Ray: token, sockets and logs, for this user alone and for this process."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from . import keeper

LONGEST_TEMPORARY = 24  # Ray's socket names must stay within 107 characters
PREFIX, OWNED, MARK = "harness-ray-", keeper.OWNED, keeper.MARK


@functools.cache
def private_folder() -> Path:
    """The folder, removed when this process ends, however it does.

    One a process, since Ray reads its token once.

    Raises:
        OSError: no folder for temporary files can be written.
    """
    parent = tempfile.gettempdir()
    if len(parent) > LONGEST_TEMPORARY:
        parent = "/tmp"
    remove_orphans(Path(parent))
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))  # mode 0700
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            for process in _keepers:
                process.kill()
                process.wait()
            keeper.clear(str(folder))

    atexit.register(remove)
    own(folder)
    descriptor = os.open(folder / "token", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
    _keep(folder)
    return folder


def own(folder: Path) -> None:
    """Lock a file in the folder for as long as this process lives, however it ends."""
    descriptor = os.open(folder / "new", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    (folder / "new").rename(folder / OWNED)  # never there without its lock


def remove_orphans(parent: Path) -> None:
    """Remove the folders of processes that were killed, and their keepers with them."""
    for mark in parent.glob(f"{PREFIX}*/{OWNED}"):
        with contextlib.suppress(OSError):  # it lives, or is somebody else's
            descriptor = os.open(mark, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(mark.parent, ignore_errors=True)
            finally:
                os.close(descriptor)


def _keep(folder: Path) -> None:
    """Start the keeper in a session of its own, out of reach of what ends us."""
    _keepers.append(
        subprocess.Popen(
            [sys.executable, "-I", "-S", keeper.__file__, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
    )


_keepers: list[subprocess.Popen[bytes]] = []

__all__ = ["MARK", "OWNED", "PREFIX", "own", "private_folder", "remove_orphans"]
