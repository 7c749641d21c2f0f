"""A small study, a store for it, and a real PostgreSQL server on loopback."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from harness.records.store import Store
from harness.suite import InTrainingSpec, LRUSpec, TaskSpec, TrainingSpec, TrialSpec
from harness.tune import Budget, Floats, Ints, Setting, Space, Study

PAPER = Setting(start=0.0, end=0.1, count=4, tau=0.1)


def fields(**changes: Any) -> dict[str, Any]:
    """What a small study is made of: 1,000 validation examples, 500 steps, 50 grid points."""
    base = TrialSpec(
        task=TaskSpec(name="vowels", length=64, train=100, validation=1000, test=100),
        model=LRUSpec(blocks=1, width=4, state_dim=8),
        training=TrainingSpec(steps=500, batch_size=10),
        arm=InTrainingSpec(kind="in_training"),
    )
    space = Space(
        start=Floats(low=0.02, high=0.5),
        length=Floats(low=0.04, high=0.4),
        count=Ints(low=1, high=6),
        tau=Floats(low=0.01, high=0.5, log=True),
        options={"moments": ("transport", "reset")},
    )
    made = {
        "name": "timing", "base": base, "space": space, "seeds": (0, 1), "confirm_seeds": (5, 6),
        "goal": "constrained", "margin": 0.02, "startup": 3, "enqueue": (PAPER,), "batch": 3,
        "budget": Budget(candidates=9),
    }  # fmt: skip
    made |= changes
    if made["goal"] == "pareto" and "margin" not in changes:
        made["margin"] = None
    return made


@pytest.fixture
def make_study():
    """`make_study(**changes)`: the small study with other fields."""
    return lambda **changes: Study(**fields(**changes))


@pytest.fixture
def store(tmp_path) -> Store:
    return Store.open(tmp_path / "store")


def _binaries() -> Path | None:
    """The folder that has both initdb and postgres."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else []
    folders += [Path("/usr/local/bin"), *sorted(Path("/usr/lib/postgresql").glob("*/bin"))]
    here = (f for f in folders if (f / "initdb").exists() and (f / "postgres").exists())
    return next(here, None)


def _somebody() -> dict[str, Any]:
    """Whom the server runs as: it refuses to run as root."""
    if os.getuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    pytest.skip("PostgreSQL does not run as root, and there is no user postgres or nobody")


def _wait(server: subprocess.Popen, connect: Any) -> None:
    import psycopg2

    deadline = time.monotonic() + 30
    while True:
        try:
            connect().close()
            return
        except psycopg2.OperationalError as error:
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the test's PostgreSQL server does not start: {error}")
            time.sleep(0.05)


@pytest.fixture(scope="session")
def server():
    """host:port of a PostgreSQL server of our own; skipped where it is not installed."""
    psycopg2 = pytest.importorskip("psycopg2", reason="psycopg2 is not installed")
    folder = _binaries()
    if folder is None:
        pytest.skip("no initdb and postgres on PATH, in /usr/local/bin or /usr/lib/postgresql")
    who = _somebody()
    # Not in pytest's own folder, which only its owner may enter.
    data = Path(tempfile.mkdtemp(prefix="harness-postgres-"))
    if who:
        os.chown(data, who["user"], who["group"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    try:
        made = subprocess.run(
            [folder / "initdb", "-D", data / "db", "-U", "harness", "--auth=trust", "--no-sync",
             "--locale=C", "-E", "UTF8"],
            cwd=data, capture_output=True, text=True, **who,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        running = subprocess.Popen(
            [folder / "postgres", "-D", data / "db", "-p", str(port), "-k", data, "-F",
             "-c", "listen_addresses=127.0.0.1"],
            cwd=data, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **who,
        )  # fmt: skip
        try:
            _wait(
                running,
                lambda: psycopg2.connect(
                    host="127.0.0.1", port=port, user="harness", dbname="postgres"
                ),
            )
            yield f"127.0.0.1:{port}"
        finally:
            running.send_signal(signal.SIGINT)  # a fast shutdown
            running.wait(30)
    finally:
        shutil.rmtree(data, ignore_errors=True)


@pytest.fixture
def postgres(server, request):
    """The URL of an empty database on the server."""
    import psycopg2

    host, port = server.split(":")
    name = f"test_{abs(hash(request.node.nodeid))}"
    admin = psycopg2.connect(host=host, port=port, user="harness", dbname="postgres")
    admin.autocommit = True
    admin.cursor().execute(f"CREATE DATABASE {name}")
    admin.close()
    return f"postgresql://harness@{server}/{name}"
