"""Ray itself: starting or finding a cluster, what it has, and leaving nothing behind."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import logging
import os
import secrets
import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.inputs import shown

from .worker import usable_cores

PROBE_SECONDS = 3.0
OBJECT_STORE_BYTES = 100 * 1024**2  # specs and outcomes are all that goes through it
LONGEST_TEMPORARY = 24  # Ray's socket names must stay within 107 characters
PREFIX, OWNED = "harness-ray-", "owned"
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_CALL = "/ray.rpc.NodeInfoGcsService/CheckAlive"  # what Ray's own health check asks
_SETTINGS = 4  # the type of an HTTP/2 server's first frame


@dataclass(frozen=True)
class Node:
    """What a node offers."""

    node_id: str
    cpus: float
    gpus: float


@contextlib.contextmanager
def connected(address: str, cpus: int) -> Iterator[Any]:
    """The ray module, connected; an own Ray with at least `cpus` CPUs for `local`.

    Leaving it disconnects, and ends every process of an own Ray.

    Raises:
        ValueError: nobody answers at the address, or it lets us not in.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address != "local":
        _probe(address)
        ray = _connect(address)
        try:
            yield ray
        finally:
            ray.shutdown()
        return
    before = _children()
    try:
        yield _start(cpus)
    finally:
        _end(before)


def nodes(ray: Any) -> list[Node]:
    """The living nodes and their totals."""
    return [
        Node(n["NodeID"], n["Resources"].get("CPU", 0.0), n["Resources"].get("GPU", 0.0))
        for n in ray.nodes()
        if n["Alive"]
    ]


def _start(cpus: int) -> Any:
    """An own Ray on this machine, reachable with a token that only we can read."""
    folder = _private_folder()
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # read when ray is first imported
    if "RAY_AUTH_TOKEN" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN_PATH", str(folder / "token"))
    import ray

    ray.init(
        address="local",
        num_cpus=max(usable_cores(), cpus),
        namespace=f"harness-{uuid.uuid4().hex}",
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=OBJECT_STORE_BYTES,
        _temp_dir=str(folder / "ray"),  # Ray opens this one to everybody
    )
    return ray


def _connect(address: str) -> Any:
    import ray

    try:
        ray.init(
            address=address,
            namespace=f"harness-{uuid.uuid4().hex}",
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        ray.shutdown()
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"cannot use the Ray cluster at {address}: {lines[0]}") from None
    return ray


@functools.cache
def _private_folder() -> Path:
    """For token, sockets and logs of our own Ray; removed when this process ends.

    One a process, since Ray reads its token once.
    """
    parent = tempfile.gettempdir()
    if len(parent) > LONGEST_TEMPORARY:
        parent = "/tmp"
    _remove_orphans(Path(parent))
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))  # mode 0700
    _own(folder)
    descriptor = os.open(folder / "token", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


def _own(folder: Path) -> None:
    """Lock a file in the folder for as long as this process lives, however it ends."""
    descriptor = os.open(folder / "new", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    (folder / "new").rename(folder / OWNED)  # never there without its lock


def _remove_orphans(parent: Path) -> None:
    """Remove the folders of processes that were killed."""
    for mark in parent.glob(f"{PREFIX}*/{OWNED}"):
        with contextlib.suppress(OSError):  # it lives, or is somebody else's
            descriptor = os.open(mark, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(mark.parent, ignore_errors=True)
            finally:
                os.close(descriptor)


def _children() -> set[Any]:
    import psutil

    return set(psutil.Process().children(recursive=True))


def _end(before: set[Any]) -> None:
    """Shut our own Ray down and see to it that all of its processes are gone."""
    import psutil
    import ray

    ours = _children() - before
    ray.shutdown()
    _, alive = psutil.wait_procs(ours, timeout=3)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=3)


def check_address(address: str) -> None:
    """Raise ValueError, within seconds, if no cluster answers there; `local` always does."""
    if address != "local":
        _probe(address)


def _probe(address: str) -> None:
    """Raise ValueError unless something that speaks gRPC, and Ray's calls, answers there.

    Ray itself would try for two minutes. Of a server for `ray://` only gRPC is asked.
    """
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
    """Whether a gRPC server knows one of Ray's calls; one that wants a token first may."""
    import grpc  # it comes with Ray

    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    nobody = (
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    )
    # A proxy for the web is none for Ray, which does not ask it either.
    with grpc.insecure_channel(target, [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(_CALL)(b"", timeout=PROBE_SECONDS)
        except grpc.RpcError as error:
            return error.code() not in nobody
    return True


def _bootstrap() -> str | None:
    """Where Ray's own `auto` would look: `RAY_ADDRESS`, or the cluster last started here."""
    if os.environ.get("RAY_ADDRESS"):
        return os.environ["RAY_ADDRESS"]
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    note = Path(folder) / "ray" / "ray_current_cluster"
    try:
        return note.read_text().strip() or None
    except OSError:
        return None


def _names_a_host(host: str) -> bool:
    """Whether a host may have this name; IPv6 addresses may."""
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
