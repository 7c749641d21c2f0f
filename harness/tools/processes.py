"""Which process this is, among those of all machines, and whether another one still lives."""

from __future__ import annotations

import hashlib
import os
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process: `machine` tells one boot of a machine, and one of its containers, from others;
    `started` tells two processes of one number apart."""

    machine: str
    host: str
    pid: int
    started: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    def is_dead(self) -> bool:
        """Whether it is known to have ended. Of other machines nothing is known."""
        return self.machine == _machine() and _started(self.pid) != self.started


def this_process() -> Process:
    """The process that asks."""
    return _process(os.getpid())


@cache
def _process(pid: int) -> Process:
    return Process(_machine(), os.uname().nodename, pid, _started(pid) or "")


@cache
def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # Containers on one machine count their processes apart.
        kind = f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        import psutil

        kind = f"{uuid.getnode()} {int(psutil.boot_time())}"
    return hashlib.sha256(kind.encode()).hexdigest()[:16]


def _started(pid: int) -> str | None:
    """When the process started, in a unit of its system; None if it has ended."""
    try:
        # After the command's name, which may hold anything: state, and 19 fields on the start.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
        return _started_elsewhere(pid)
    except ProcessLookupError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _started_elsewhere(pid: int) -> str | None:
    """`_started` where there is no /proc."""
    import psutil

    try:
        process = psutil.Process(pid)
        ended = process.status() == psutil.STATUS_ZOMBIE
        return None if ended else repr(process.create_time())
    except psutil.NoSuchProcess:
        return None


__all__ = ["Process", "this_process"]
