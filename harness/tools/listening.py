"""Where a server of ours may listen, and what it says when others can reach it."""

from __future__ import annotations

import ipaddress
import socket

from harness.tools.inputs import shown


def check_listening(host: str, port: int) -> None:
    """Raise ValueError unless a server can listen there: one line that names address and reason."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, UnicodeError) as error:
        said = getattr(error, "strerror", None) or "it is no address"
        raise ValueError(f"cannot listen at {shown(host)}, port {port}: {said}") from None


def exposed(host: str, port: int, what: str) -> str | None:
    """A line that says what others can do there and how to close it; None on loopback."""
    if _is_loopback(host):
        return None
    return (
        f"whoever reaches port {port} of this machine can {what}. A firewall closes it; on "
        f"loopback (127.0.0.1), `ssh -L {port}:127.0.0.1:{port}` leads to it and needs none"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


__all__ = ["check_listening", "exposed"]
