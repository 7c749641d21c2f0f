"""Hosts do to each other what machines do: these tests are about the tests' own tools."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.cli.test_process import PATHS

from .machines import NETWORK


def answers(one, other):
    return one.run("python3", "-c", PING.format(address=other.address)).stdout.strip()


SERVE = "import socket; s = socket.create_server(('0.0.0.0', 999)); s.accept(); s.accept()"
PING = """
import socket
try:
    socket.create_connection(('{address}', 999), 1)
    print('yes')
except OSError as error:
    print(type(error).__name__)
"""


def listening(host, site):
    log = site.folder / "serve.log"
    code = SERVE.replace("s.accept()", "print('ready', flush=True)", 1)
    process = host.start("python3", "-c", code, log=log, cwd=site.folder, env=os.environ)
    until_ready(log)
    return process


def until_ready(log):
    deadline = time.monotonic() + 20
    while "ready" not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


def test_hosts_have_names_disks_processes_and_cables_of_their_own(hosts):
    one, two = hosts.add(), hosts.add("1m")
    assert [host.run("hostname").stdout for host in (one, two)] == ["h0\n", "h1\n"]
    assert "h0" in two.run("getent", "hosts", one.address).stdout
    (hosts.shared / "seen").write_text("by all")
    assert two.run("cat", hosts.shared / "seen").stdout == "by all"
    one.run("touch", hosts.own / "mine")
    assert two.run("ls", hosts.own).stdout == ""
    full = two.run("dd", "if=/dev/zero", f"of={hosts.own}/file", "bs=1k", "count=2000")
    assert "No space left" in full.stderr
    assert not list(hosts.own.iterdir())

    server = listening(two, hosts)
    assert server in two.processes()
    assert server not in one.processes()
    two.cut()
    assert answers(one, two) == "TimeoutError"
    two.heal()
    assert answers(one, two) == "yes"
    assert not [a for a in psutil.net_if_addrs().values() if any(NETWORK in x.address for x in a)]


def test_a_paused_host_is_silent_and_goes_on_and_one_without_power_is_gone(hosts):
    one, two = hosts.add(), hosts.add()
    server = listening(two, hosts)
    two.pause()
    assert server.status() == psutil.STATUS_STOPPED
    two.resume()
    assert server.status() != psutil.STATUS_STOPPED
    two.power_off()
    assert not server.is_running()
    assert answers(one, two) in ("TimeoutError", "OSError")  # nobody at this address answers
    assert two.processes() == []


LOCK = """
import fcntl, sys, time
with open(sys.argv[1], "w") as file:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    print("ready", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.mark.parametrize("fuse", [True, False])
def test_hosts_with_mounts_of_their_own_share_files_and_no_locks(hosts_without_locks, fuse):
    site = hosts_without_locks
    site.is_fuse = fuse
    one, two = site.add(), site.add()
    lock = "python3", "-c", LOCK, site.shared / "file"
    log = site.folder / "lock.log"
    one.start(*lock, "100", log=log, cwd=site.folder, env=os.environ)
    until_ready(log)
    assert two.run("ls", site.shared).stdout == "file\n"
    assert ("ready" in two.run(*lock, "0").stdout) == fuse


LEAVE = """
import os, sys, time
from tests.launch.hosts.machines import site
with site() as made:
    host = made.add()
    print(made.folder, made.switch.pid, host.first.pid, flush=True)
    os.kill(os.getpid(), 9)
"""


def test_hosts_end_with_whoever_made_them_even_by_sigkill(hosts):
    done = subprocess.run(
        [sys.executable, "-c", LEAVE],
        env={**os.environ, "PYTHONPATH": PATHS},
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL
    folder, *pids = done.stdout.split()
    deadline = time.monotonic() + 20
    while any(psutil.pid_exists(int(pid)) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    subprocess.run(["rm", "-r", folder], check=True)
