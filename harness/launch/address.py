"""Addresses of Ray clusters: their syntax, and whether a cluster answers."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from harness.tools.inputs import shown

PROBE_SECONDS = 3.0
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_CALL = "/ray.rpc.NodeInfoGcsService/CheckAlive"  # what Ray's own health check asks
_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # which Ray sets for the command of a job, and there only
_SETTINGS = 4  # the type of an HTTP/2 server's first frame


def default_address() -> str:
    """`local`; in one of Ray's jobs `auto`, which is the cluster that runs the job."""
    return "auto" if os.environ.get(_JOB) else "local"


def check_address(address: str) -> None:
    """Raise ValueError, within seconds, unless a Ray cluster answers there. `local` always passes.

    Ray itself would try for two minutes. A `ray://` server is only asked whether it speaks gRPC.
    """
    if address == "local":
        return
    target = _bootstrap() if address == "auto" else address
    if target is None:
        raise ValueError("no Ray cluster runs on this machine (address auto)")
    host, port = _split(target)
    silent = f"no Ray cluster answers at {host}:{port}"
    try:
        with socket.create_connection((host, port), timeout=PROBE_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
                return
            connection.settimeout(PROBE_SECONDS)
            connection.sendall(_HELLO)
            answer = connection.recv(9)
    except OSError:
        raise ValueError(silent) from None
    if len(answer) < 4 or answer[3] != _SETTINGS:
        raise ValueError(silent)
    if not target.startswith("ray://") and not _is_ray(host, port):
        raise ValueError(silent)


def _is_ray(host: str, port: int) -> bool:
    """Whether a gRPC server knows one of Ray's calls, or may know it but asks for a token first."""
    import grpc  # installed with Ray

    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    nobody = (
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    )
    # Ray does not use the web proxy either.
    with grpc.insecure_channel(target, [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(_CALL)(b"", timeout=PROBE_SECONDS)
        except grpc.RpcError as error:
            return error.code() not in nobody
    return True


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
