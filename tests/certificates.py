"""Certificates for TLS, made by openssl for one test."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


class Authority:
    """One that signs certificates; its own is `path`."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("openssl is not installed")
        self.folder, self.path = folder, folder / "authority.pem"
        folder.mkdir(exist_ok=True)
        self._openssl("req", "-x509", *_key("authority"), "-subj", "/CN=tests", "-days", "2",
                      "-out", "authority.pem")  # fmt: skip

    def sign(self, name: str, *addresses: str) -> dict[str, str]:
        """A certificate for these addresses, as the variables by which Ray uses it."""
        names = ",".join(["DNS:localhost", *(f"IP:{address}" for address in addresses)])
        (self.folder / f"{name}.ext").write_text(f"subjectAltName={names}\n")
        self._openssl("req", *_key(name), "-subj", f"/CN={name}", "-out", f"{name}.csr")
        self._openssl("x509", "-req", "-in", f"{name}.csr", "-days", "2", "-CA", "authority.pem",
                      "-CAkey", "authority.key", "-CAcreateserial", "-extfile", f"{name}.ext",
                      "-out", f"{name}.pem")  # fmt: skip
        return {
            "RAY_USE_TLS": "1",
            "RAY_TLS_SERVER_CERT": str(self.folder / f"{name}.pem"),
            "RAY_TLS_SERVER_KEY": str(self.folder / f"{name}.key"),
            "RAY_TLS_CA_CERT": str(self.path),
        }

    def _openssl(self, *words: str) -> None:
        done = subprocess.run(["openssl", *words], cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def _key(name: str) -> list[str]:
    curve = ["-pkeyopt", "ec_paramgen_curve:prime256v1"]
    return ["-newkey", "ec", *curve, "-nodes", "-keyout", f"{name}.key"]
