"""A PostgreSQL server of our own on loopback, which a test may stop and start again."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import free_port

USER = "harness"


class Postgres:
    """A server in a folder that exists; `who` runs it."""

    def __init__(self, binaries: Path, folder: Path, who: dict[str, Any]) -> None:
        self.binaries, self.folder, self.who = binaries, folder, who
        self.address = f"127.0.0.1:{free_port()}"
        made = subprocess.run(
            [binaries / "initdb", "-D", folder / "db", "-U", USER, "--auth=trust", "--no-sync",
             "--locale=C", "-E", "UTF8"],
            cwd=folder, capture_output=True, text=True, **who,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr

    def start(self) -> None:
        """Start it, and wait until it answers."""
        import psycopg2

        self.running = subprocess.Popen(
            [self.binaries / "postgres", "-D", self.folder / "db", "-k", self.folder, "-F",
             "-p", self.address.partition(":")[2], "-c", "listen_addresses=127.0.0.1"],
            cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self.who,
        )  # fmt: skip
        deadline = time.monotonic() + 30
        while True:
            try:
                return self.connect().close()
            except psycopg2.OperationalError as error:
                if self.running.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"the test's PostgreSQL server does not start: {error}")
                time.sleep(0.05)

    def stop(self) -> None:
        """End it at once: connections are cut, and what was committed stays."""
        self.running.send_signal(signal.SIGINT)
        self.running.wait(30)

    def connect(self) -> Any:
        """A connection as its owner, for commands outside transactions."""
        import psycopg2

        host, port = self.address.split(":")
        connection = psycopg2.connect(host=host, port=port, user=USER, dbname="postgres")
        connection.autocommit = True
        return connection

    def database(self, name: str) -> str:
        """The URL of a new, empty database."""
        with contextlib.closing(self.connect()) as admin:
            admin.cursor().execute(f"CREATE DATABASE {name}")
        return f"postgresql://{USER}@{self.address}/{name}"


@contextlib.contextmanager
def postgres_server() -> Iterator[Postgres]:
    """A running server; skipped where it is not installed."""
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed")
    binaries = _binaries()
    if binaries is None:
        pytest.skip("no initdb and postgres on PATH, in /usr/local/bin or /usr/lib/postgresql")
    who = _somebody()
    # Not in pytest's own folder, which only its owner may enter.
    folder = Path(tempfile.mkdtemp(prefix="harness-postgres-"))
    try:
        if who:
            os.chown(folder, who["user"], who["group"])
        server = Postgres(binaries, folder, who)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    pytest.skip("PostgreSQL does not run as root, and there is no user postgres or nobody")
