"""MLflow's server on loopback, with passwords, as a team would run it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.servers import free_port

ADMIN, PASSWORD = "admin", "hush-hush-hush"
LONG_ENOUGH = 180  # seconds that it may take to start: it makes its tables first
PASSWORDS = """
[mlflow]
default_permission = READ
database_uri = sqlite:///{folder}/users.db
admin_username = {name}
admin_password = {password}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""


class MlflowServer:
    """A server that can be stopped and started again; `backend` holds its runs, `artifacts` what
    they left, which goes through the server."""

    def __init__(self, folder: Path, backend: str | None = None, artifacts: str | None = None):
        if find_spec("flask_wtf") is None:
            pytest.skip("MLflow's passwords need Flask-WTF: pip install 'mlflow[auth]'")
        self.folder, self.port = folder, free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.backend = backend or f"sqlite:///{folder}/runs.db"
        self.artifacts = artifacts or f"{folder}/artifacts"
        (folder / "users.ini").write_text(
            PASSWORDS.format(folder=folder, name=ADMIN, password=PASSWORD)
        )
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / "mlflow.log"

    def start(self, wait: bool = True) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth",
                 "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
                 "--backend-store-uri", self.backend, "--artifacts-destination", self.artifacts],
                env={
                    **kept,
                    "MLFLOW_AUTH_CONFIG_PATH": str(self.folder / "users.ini"),
                    "MLFLOW_FLASK_SERVER_SECRET_KEY": "a key of this server",
                    "MLFLOW_DISABLE_TELEMETRY": "true",
                },
                stdout=log, stderr=log, cwd=self.folder, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + LONG_ENOUGH
        while wait and not self.answers():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.2)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/health", timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> None:
        """End it with all its processes."""
        if self.process is not None:
            os.killpg(self.process.pid, 9)
            self.process.wait()
            self.process = None
