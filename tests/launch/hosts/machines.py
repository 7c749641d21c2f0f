"""Machines for a test: namespaces on this one, joined by a switch of their own.

Each host has its own network, name, processes and mounts, and a small disk of its own; it sees all
other files of this machine. The switch is a namespace too, so nothing leads from here to there or
out of it. All of them end with the process that made them, however it ends, and leave nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

NETWORK = "10.213.7"  # within the namespaces only
NEEDED = ("ip", "unshare", "nsenter", "setpriv", "mount")
# Ends with its parent; its own end is that of all its processes, since it is their first.
NAMESPACE = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--uts", "--mount", "--pid",
             "--fork", "--kill-child", "--mount-proc"]  # fmt: skip
# The first process of a host: it tells that it is there, and buries orphans.
FIRST = "echo ready; while :; do sleep 1000 & wait $! || :; done"


def lacks() -> str | None:
    """Why there can be no such hosts here, or None."""
    if os.geteuid() != 0:
        return "hosts in namespaces need root"
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        return f"hosts in namespaces need {', '.join(missing)} (Debian: iproute2, util-linux)"
    done = subprocess.run([*NAMESPACE, "true"], capture_output=True, text=True)
    return f"no namespaces here: {done.stderr.strip()}" if done.returncode else None


class Host:
    """One machine: `run` and `start` commands on it, and let it break."""

    def __init__(self, site: Site, number: int, disk: str) -> None:
        self.site, self.number = site, number
        self.name, self.address = f"h{number}", f"{NETWORK}.{10 + number}"
        own, names = site.own, site.folder / "hosts"
        setup = (
            f"set -e; hostname {self.name}; mount -t tmpfs -o size={disk},mode=1777 own {own}; "
            f"mount -t tmpfs own /dev/shm; mount --bind {names} /etc/hosts; "
        )
        if site.is_fuse:  # what others change is seen at once, as on an NFS that is asked to
            options = "nonempty,attr_timeout=0,entry_timeout=0"
            setup += f"bindfs -o {options} {site.shared} {site.shared}; "
        self.first = _namespace(setup + FIRST)
        _ip(site.switch, f"link add p{number} type veth peer name eth0 netns {self.first.pid}")
        _ip(site.switch, f"link set p{number} master br0 up")
        _ip(self.first, "link set lo up")
        _ip(self.first, f"address add {self.address}/24 dev eth0")
        _ip(self.first, "link set eth0 up")

    def start(
        self, *command: str | Path, log: Path, cwd: Path, env: Mapping[str, str]
    ) -> psutil.Process:
        """Begin a command on the host; what it says goes to a file. Returns its process."""
        with log.open("ab") as stream:
            outer = subprocess.Popen(
                _enter(self.first, "env", "-C", cwd, *command),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=env,
            )
        self.site.started.append(outer)
        return _inner(outer)

    def run(self, *command: str | Path, **options) -> subprocess.CompletedProcess[str]:
        """The command's end, with what it said."""
        return subprocess.run(
            _enter(self.first, *command), capture_output=True, text=True, check=False, **options
        )

    def processes(self) -> list[psutil.Process]:
        """All that runs on the host, but for its first process."""
        here = _namespace_of(self.first.pid)
        found = psutil.process_iter() if here else ()
        return [one for one in found if _namespace_of(one.pid) == here and one != self.first]

    def cut(self) -> None:
        """Pull the network's cable."""
        _ip(self.site.switch, f"link set p{self.number} down")

    def heal(self) -> None:
        """Plug the cable in again."""
        _ip(self.site.switch, f"link set p{self.number} up")

    def pause(self) -> None:
        """Stop all processes of the host at once, as a frozen virtual machine does."""
        self.run("kill", "-STOP", "-1")
        deadline = time.monotonic() + 20  # a signal takes its effect after `kill` has returned
        while not all(map(_is_at_rest, self.processes())):
            assert time.monotonic() < deadline, self.processes()
            time.sleep(0.001)

    def resume(self) -> None:
        """Let them go on."""
        self.run("kill", "-CONT", "-1")
        for outer in self.site.started:  # `nsenter` has stopped with what it waits for
            outer.send_signal(signal.SIGCONT)

    def power_off(self, silently: bool = True) -> None:
        """All its processes end at once. Silently, nothing is closed or said: whoever talks to the
        host gets no answer; otherwise its connections are closed, as by a virtual machine's end."""
        if _namespace_of(self.first.pid):
            if silently:
                self.cut()
            self.first.kill()
            self.first.wait(20)


class Site:
    """Hosts that share a network and the folder `shared`; each has a disk of its own at `own`.

    With `is_fuse`, each host has a mount of its own of the shared folder, through a file system in
    user space: a lock that one host holds there keeps no other out.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.shared, self.own = folder, folder / "shared", folder / "own"
        self.is_fuse = False
        self.shared.mkdir()
        self.own.mkdir()
        names = [f"{NETWORK}.{10 + n} h{n}\n" for n in range(10)]
        (folder / "hosts").write_text("127.0.0.1 localhost\n" + "".join(names))
        self.started: list[subprocess.Popen[bytes]] = []
        self.switch = _namespace(FIRST)
        _ip(self.switch, "link add br0 type bridge")
        _ip(self.switch, "link set br0 up")
        self.hosts: list[Host] = []

    def add(self, disk: str = "2g") -> Host:
        """Another host, with a disk of its own of this size."""
        self.hosts.append(Host(self, len(self.hosts), disk))
        return self.hosts[-1]

    def end(self) -> None:
        """Switch everything off."""
        for first in [*(host.first for host in self.hosts), self.switch]:
            with contextlib.suppress(psutil.NoSuchProcess):
                first.kill()
        for outer in self.started:
            outer.kill()
            outer.wait()


@contextlib.contextmanager
def site() -> Iterator[Site]:
    """A site whose hosts are switched off at the end."""
    # Ray's sockets lie in it, and their paths have at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="h-", dir="/tmp"))
    try:
        made = Site(folder)
        try:
            yield made
        finally:
            made.end()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _namespace(script: str) -> psutil.Process:
    """The first process of a new namespace, once its script has come to `echo ready`."""
    outer = subprocess.Popen(
        [*NAMESPACE, "bash", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    assert outer.stdout is not None
    said = outer.stdout.readline()
    assert said == b"ready\n", f"a host did not start: {outer.wait()}"
    return _inner(outer)


def _inner(outer: subprocess.Popen[bytes]) -> psutil.Process:
    """The one process that `unshare` or `nsenter` has forked into another namespace."""
    deadline = time.monotonic() + 20
    while not (found := psutil.Process(outer.pid).children()):
        assert outer.poll() is None, f"{outer.args} ended with {outer.returncode}"
        assert time.monotonic() < deadline, outer.args
        time.sleep(0.01)
    return found[0]


def _enter(first: psutil.Process, *command: str | Path) -> list[str]:
    words = [str(word) for word in command]
    return ["nsenter", "-t", str(first.pid), "-n", "-u", "-m", "-p", *words]


def _ip(first: psutil.Process, words: str) -> None:
    # Of its namespaces only the network: `netns` takes the number that a process has here.
    command = ["nsenter", "-t", str(first.pid), "-n", "ip", *words.split()]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"ip {words}: {done.stderr}"


def _is_at_rest(process: psutil.Process) -> bool:
    """Whether it is stopped, or has ended since it was listed."""
    try:
        return process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _namespace_of(pid: int) -> int:
    try:
        return os.stat(f"/proc/{pid}/ns/pid").st_ino
    except OSError:
        return 0
