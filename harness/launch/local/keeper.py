"""Outlives a driver that was killed, ends its Ray's processes and removes its folder.

Runs as a script with one argument, FOLDER, in a bare interpreter with the standard library only.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import sys
import time

OWNED = "owned"  # the file that the driver keeps locked while it is alive
MARK = "HARNESS_RAY_FOLDER"  # set in the environment of its Ray's processes
PATIENCE = 20.0  # seconds in which new processes may still appear


def belongs(pid: str, folder: str) -> bool:
    """Whether a process belongs to the Ray in the folder. Its environment says so or, if a process
    title has overwritten that, it has a file in the folder open for writing."""
    place = f"/proc/{pid}"
    with contextlib.suppress(OSError):
        with open(f"{place}/environ", "rb") as file:
            if f"{MARK}={folder}".encode() in file.read().split(b"\0"):
                return True
        for name in os.listdir(f"{place}/fd"):
            with contextlib.suppress(OSError):
                inside = os.readlink(f"{place}/fd/{name}").startswith(f"{folder}/")
                if inside and _writes(f"{place}/fdinfo/{name}"):
                    return True
    return False


def _writes(info: str) -> bool:
    with open(info) as file:
        flags = next(line.split()[1] for line in file if line.startswith("flags:"))
    return int(flags, 8) & os.O_ACCMODE != os.O_RDONLY


def processes(folder: str) -> list[int]:
    """The processes of that Ray, as far as /proc shows them."""
    names = os.listdir("/proc") if os.path.isdir("/proc") else []
    others = (name for name in names if name.isdigit() and int(name) != os.getpid())
    return [int(name) for name in others if belongs(name, folder)]


def keep(folder: str) -> None:
    """Wait for the driver's end, then clean up."""
    with contextlib.suppress(FileNotFoundError):  # the driver has cleaned up itself
        descriptor = os.open(os.path.join(folder, OWNED), os.O_RDWR)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    clear(folder)


def clear(folder: str) -> None:
    """End that Ray's processes, which could create files in the folder again, and remove it."""
    end = time.monotonic() + PATIENCE
    while (alive := processes(folder)) and time.monotonic() < end:
        for pid in alive:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    keep(sys.argv[1])
