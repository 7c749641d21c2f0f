"""Addresses of Ray clusters: their syntax, and whether a cluster answers."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import Literal

from harness.tools.inputs import cut, os_reason, shown

from . import tls

PROBE_SECONDS = 3.0
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_CALL = "/ray.rpc.NodeInfoGcsService/CheckAlive"  # what Ray's own health check asks
_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # which Ray sets for the command of a job, and there only
_SETTINGS = 4  # the type of an HTTP/2 server's first frame


def default_address() -> str:
    """`local`; in one of Ray's jobs `auto`, which is the cluster that runs the job."""
    return "auto" if os.environ.get(_JOB) else "local"


def check_address(address: str) -> None:
    """Raise ValueError, within seconds, unless a Ray cluster answers there and takes our token.
    `local` always passes.

    Ray itself would try for two minutes, and does not say what is wrong with a token. A `ray://`
    server is only asked whether it speaks gRPC.
    """
    if address == "local":
        return
    target = _bootstrap() if address == "auto" else address
    if target is None:
        raise ValueError("no Ray cluster runs on this machine (address auto)")
    host, port = _split(target)
    _greet(host, port)
    if not target.startswith("ray://"):
        _knock(host, port)


def _greet(host: str, port: int) -> None:
    """Raise ValueError unless a server of gRPC answers, with TLS if that is asked for."""
    answer = b""
    try:
        with socket.create_connection((host, port), timeout=PROBE_SECONDS) as connection:
            if tls.is_asked_for():
                return tls.check(connection, host, port)
            with contextlib.suppress(ConnectionError):  # a server of TLS hangs up
                connection.sendall(_HELLO)
                answer = connection.recv(9)
    except OSError:  # it also stays silent
        raise ValueError(_silent(host, port)) from None
    if len(answer) >= 4 and answer[3] == _SETTINGS:
        return None
    if tls.is_spoken(host, port, PROBE_SECONDS):
        raise ValueError(f"the Ray cluster at {host}:{port} uses TLS: set {tls.HOW}")
    raise ValueError(_silent(host, port))


def _knock(host: str, port: int) -> None:
    """Raise ValueError unless the server is Ray's, and takes our token and certificate."""
    where = f"the Ray cluster at {host}:{port}"
    token, source = _token()
    kind = _ask(host, port, token)
    if kind == "stranger" and tls.is_asked_for():
        raise ValueError(f"{where} does not accept our certificate ({tls.CERTIFICATE})")
    if kind == "stranger":
        raise ValueError(_silent(host, port))
    if kind == "unauthenticated":
        if token is None:
            raise ValueError(f"{where} asks for a token: {source}")
        raise ValueError(f"{where} does not accept the token {source}: it was started with another")


def _silent(host: str, port: int) -> str:
    return f"no Ray cluster answers at {host}:{port}"


def _token() -> tuple[str | None, str]:
    """The token that Ray would send, and where it is from; None, and how to give one."""
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return None, "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to the file that holds it"
    if os.environ.get("RAY_AUTH_TOKEN"):
        return os.environ["RAY_AUTH_TOKEN"].strip(), "of RAY_AUTH_TOKEN"
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    try:
        return path.read_text(errors="replace").strip(), f"in {cut(str(path))}"
    except OSError as error:
        return None, f"RAY_AUTH_MODE is token, but {os_reason(error)}"


def _ask(host: str, port: int, token: str | None) -> Literal["ray", "unauthenticated", "stranger"]:
    """What a gRPC server is: whether it knows one of Ray's calls, and takes our token."""
    import grpc  # installed with Ray

    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    nobody = (
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    )
    options = [("grpc.enable_http_proxy", 0)]  # Ray does not use the web proxy either
    if tls.is_asked_for():
        secrets = grpc.ssl_channel_credentials(*tls.credentials())
        opened = grpc.secure_channel(target, secrets, options)
    else:
        opened = grpc.insecure_channel(target, options)
    with opened as channel:
        try:
            with_token = [("authorization", f"Bearer {token}")] if _can_be_sent(token) else None
            channel.unary_unary(_CALL)(b"", timeout=PROBE_SECONDS, metadata=with_token)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                return "unauthenticated"
            return "stranger" if error.code() in nobody else "ray"
    return "ray"


def _can_be_sent(token: str | None) -> bool:
    """Whether gRPC takes it in a header: else it is no cluster's token either."""
    return token is not None and token.isascii() and token.isprintable()


def _bootstrap() -> str | None:
    """Where Ray looks for `auto`: `RAY_ADDRESS`, or the cluster last started here."""
    if os.environ.get("RAY_ADDRESS"):
        return os.environ["RAY_ADDRESS"]
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    note = Path(folder) / "ray" / "ray_current_cluster"
    try:
        return note.read_text().strip() or None
    except OSError:
        return None


def _names_a_host(host: str) -> bool:
    """Whether this can be a host's name or an IPv6 address."""
    try:
        host.encode("idna")
    except UnicodeError:  # an empty part, or one too long
        return False
    return bool(host) and "/" not in host


def _split(address: str) -> tuple[str, int]:
    """Host and port of HOST:PORT or ray://HOST[:PORT]."""
    plain = address.removeprefix("ray://")
    if plain != address and ":" not in plain:
        plain += ":10001"
    host, _, port = plain.rpartition(":")
    host = host.strip("[]")
    whole = port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536
    if not whole or not _names_a_host(host):
        raise ValueError(
            f"a Ray address is local, auto, HOST:PORT or ray://HOST:PORT, not {shown(address)}"
        )
    return host, int(port)


__all__ = ["check_address", "default_address"]
