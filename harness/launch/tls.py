"""TLS between the nodes of a cluster, as Ray's own variables ask for it."""

from __future__ import annotations

import os
import socket
import ssl
from pathlib import Path

from harness.tools.inputs import cut, os_reason

CERTIFICATE, KEY, AUTHORITY = "RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT"
HOW = f"RAY_USE_TLS=1 with {CERTIFICATE}, {KEY} and {AUTHORITY}"


def is_asked_for() -> bool:
    """Whether this process is to speak TLS to a cluster."""
    return os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")


def credentials() -> tuple[bytes, bytes, bytes]:
    """The authority's certificate, our key and our certificate, as files hold them.

    Raises:
        ValueError: one line that names the variable.
    """
    return _content(AUTHORITY), _content(KEY), _content(CERTIFICATE)


def check(connection: socket.socket, host: str, port: int) -> None:
    """Raise ValueError unless the server at the other end has a certificate that we trust."""
    credentials()
    where = f"the Ray cluster at {host}:{port}"
    try:
        context = ssl.create_default_context(cafile=os.environ[AUTHORITY])
        context.load_cert_chain(os.environ[CERTIFICATE], os.environ[KEY])
        context.set_alpn_protocols(["h2"])
    except ssl.SSLError as error:
        raise ValueError(f"{HOW}: they are no certificates and key ({_reason(error)})") from None
    try:
        context.wrap_socket(connection, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        said = f"{error.verify_message} ({AUTHORITY} is {cut(os.environ[AUTHORITY])})"
        raise ValueError(f"{where} has a certificate that is not trusted: {said}") from None
    except OSError:
        raise ValueError(f"no Ray cluster with TLS answers at {host}:{port}") from None


def is_spoken(host: str, port: int, timeout: float) -> bool:
    """Whether a server speaks TLS, whoever it is and whether or not it would take us."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), timeout=timeout) as connection:
            context.wrap_socket(connection, server_hostname=host).close()
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")  # it misses our certificate
    except OSError:
        return False
    return True


def _content(variable: str) -> bytes:
    path = os.environ.get(variable)
    if not path:
        raise ValueError(f"RAY_USE_TLS is set, and {variable} is not: {HOW} are needed")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{variable}: {os_reason(error)}") from None


def _reason(error: ssl.SSLError) -> str:
    return error.reason or cut(str(error))


__all__ = ["CERTIFICATE", "HOW", "check", "credentials", "is_asked_for", "is_spoken"]
