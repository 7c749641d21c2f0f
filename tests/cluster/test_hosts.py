"""The scripts for machines by hand, as two nodes of a real Ray on this machine."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from .conftest import workers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PORTS = ("gcs", "dashboard", "client", "node_manager", "object_manager", "agent_grpc",
         "agent_http", "runtime_env_agent", "metrics_export")  # fmt: skip


def free_ports():
    """Ports of a description that nobody listens on, and a range for its workers."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in PORTS]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return dict(zip(PORTS, (probe.getsockname()[1] for probe in probes), strict=True))


@pytest.fixture
def home(tmp_path, rendered, monkeypatch):
    """A home with a token, and `head.sh` and `worker-gpu.sh` in it, on ports of their own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{sys.exec_prefix}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / ".harness" / "token"))
    (tmp_path / ".harness").mkdir(mode=0o700)
    (tmp_path / ".harness" / "token").write_text("a" * 64)
    group = workers(cpus=1, gpus=0, accelerator=None)
    common = {"workers": [group], "setup": None, "secrets": None}
    head = free_ports() | {"first_worker": 20000, "last_worker": 20200}
    other = free_ports() | {"gcs": head["gcs"], "first_worker": 20300, "last_worker": 20500}
    (tmp_path / "head.sh").write_text(rendered("hosts", ports=head, **common)["head.sh"])
    files = rendered("hosts", ports=other, **common)
    (tmp_path / "worker-gpu.sh").write_text(files["worker-gpu.sh"])
    return tmp_path, head["gcs"]


@contextlib.contextmanager
def running(folder, name, *words):
    with open(folder / f"{name}.log", "w") as log:
        process = subprocess.Popen(
            ["bash", folder / name, *words], stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
        try:
            process.wait(60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


COUNT = """
import os, sys, ray
ray.init(sys.argv[1], log_to_driver=False, logging_level="ERROR")
print([n["NodeID"] for n in ray.nodes() if n["Alive"] and n["Resources"].get("CPU")])
"""


def nodes(address):
    """The living nodes with CPUs, which the head has none of; none while nothing answers."""
    done = subprocess.run(
        [sys.executable, "-c", COUNT, address], capture_output=True, text=True, timeout=120
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def until(true, what, seconds=240):
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, what
        time.sleep(1)
    return found


def test_a_worker_joins_and_joins_again_after_its_ray_was_killed(home):
    folder, port = home
    address = f"127.0.0.1:{port}"
    with running(folder, "head.sh", "127.0.0.1") as head:
        until(lambda: answers(port), (folder / "head.sh.log").read_text)
        with running(folder, "worker-gpu.sh", address) as worker:
            first = until(lambda: nodes(address) not in ("", "[]") and nodes(address), "no worker")
            for process in psutil.Process(worker.pid).children(recursive=True):
                if process.name() == "raylet":
                    process.kill()
            again = until(
                lambda: nodes(address) not in ("", "[]", first) and nodes(address), "gone"
            )
            assert again != first
        assert worker.returncode == 0  # the loop ends where it is asked to
    assert head.returncode is not None
    until(lambda: not of(port), "what is left", 60)


def of(port):
    """The processes that have this port on their command line."""
    found = psutil.process_iter(["cmdline"])
    return [one for one in found if str(port) in " ".join(one.info["cmdline"] or [])]


def answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@pytest.mark.parametrize("name", ["head.sh", "worker-gpu.sh"])
def test_without_a_token_nothing_starts(home, name):
    folder, _ = home
    (folder / ".harness" / "token").unlink()
    done = subprocess.run(["bash", folder / name, "127.0.0.1:1"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"no token in {folder}/.harness/token: ")
    assert done.stderr.count("\n") == 1
