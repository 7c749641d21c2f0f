"""The folder of our own Ray: token, sockets and logs, for this user and this process only."""

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
import time
from pathlib import Path

from . import keeper

LONGEST_TEMPORARY = 24  # Ray's socket names must stay within 107 characters
FORGOTTEN_SECONDS = 3600.0  # after which no process can still be about to lock its folder
PREFIX, OWNED, MARK = "harness-ray-", keeper.OWNED, keeper.MARK


@functools.cache
def private_folder() -> Path:
    """The folder, removed when this process ends, however it ends.

    There is one per process, since Ray reads its token once.

    Raises:
        OSError: no folder for temporary files is writable.
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
    (folder / "new").rename(folder / OWNED)  # so that it never exists unlocked


def remove_orphans(parent: Path) -> None:
    """Remove the folders of processes that were killed along with their keepers."""
    for mark in parent.glob(f"{PREFIX}*/{OWNED}"):
        with contextlib.suppress(OSError):  # its process is alive, or belongs to somebody else
            descriptor = os.open(mark, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(mark.parent, ignore_errors=True)
            finally:
                os.close(descriptor)
    for folder in parent.glob(
        f"{PREFIX}*"
    ):  # folders without the locked file, which were created again
        with contextlib.suppress(OSError):
            found = folder.stat()
            ours = found.st_uid == os.getuid() and not (folder / OWNED).exists()
            if ours and time.time() - found.st_mtime > FORGOTTEN_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def _keep(folder: Path) -> None:
    """Start the keeper in its own session, out of reach of signals that end this process."""
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
