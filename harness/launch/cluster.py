"""The connection to Ray, our own or a running cluster, and the nodes it has."""

from __future__ import annotations

import contextlib
import logging
import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .jobs import ACCELERATOR
from .local import own_ray
from .ray_errors import refusal

# Without its head, Ray would end this process after a minute, whatever it is doing. The launch
# notices earlier (`head_watch`) and ends in its own way.
PATIENCE = {"RAY_gcs_rpc_server_reconnect_timeout_s": "3600"}

# Ray prints what its nodes say of their ends, stacks included, on our standard output, whatever is
# said of logs to `init`. We report errors in a line.
QUIET = {"RAY_DEDUP_LOGS": "1", "RAY_DEDUP_LOGS_SKIP_REGEX": "."}

# On a cluster of others. Ray logs warnings and stacks on our terminal; we report errors in a line.
# And it would look for a raylet on this machine for a minute.
GUEST = {"RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_gcs_server_request_timeout_seconds": "15"}


@dataclass(frozen=True)
class Node:
    """A node's resources, and its name and address for people. `leaving`: Ray drains it, and it
    will be gone; `drained`: a mark in the store keeps trials away from it."""

    node_id: str
    cpus: float
    gpus: float
    name: str = ""
    address: str = ""
    leaving: bool = False
    memory: float = float("inf")  # bytes that Ray may set aside
    accelerators: frozenset[str] = frozenset()  # the types of its GPUs
    host: str = ""
    drained: bool = False


@contextlib.contextmanager
def connected(address: str, cpus: int) -> Iterator[Any]:
    """The connected ray module. `local` starts a Ray of our own with at least `cpus` CPUs.

    Leaving the context disconnects, and ends every process of our own Ray.

    Raises:
        ValueError: the cluster refuses us, or Ray does not start here.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    always = PATIENCE | QUIET
    for name, value in (always if address == "local" else always | GUEST).items():
        os.environ.setdefault(name, value)  # read when ray is first imported
    if address == "local":
        with own_ray(cpus) as ray:
            yield ray
        return
    ray = _connect(address)
    try:
        yield ray
    finally:
        ray.shutdown()


def nodes(ray: Any, address: str = "auto") -> list[Node]:
    """The living nodes and their totals. Through ray://, which nodes are leaving is not known."""
    # Only here does Ray tell; its own training library asks in the same way.
    leaving = () if address.startswith("ray://") else ray._private.state.state.get_draining_nodes()
    return [_node(one, one["NodeID"] in leaving) for one in ray.nodes() if one["Alive"]]


def _node(told: Mapping[str, Any], leaving: bool) -> Node:
    name = f"{told.get('NodeManagerHostname', '')} ({told.get('NodeManagerAddress', '')})"
    has = told["Resources"]
    return Node(
        told["NodeID"],
        has.get("CPU", 0.0),
        has.get("GPU", 0.0),
        name,
        told.get("NodeManagerAddress", ""),
        leaving,
        has.get("memory", float("inf")),
        frozenset(n.removeprefix(ACCELERATOR) for n in has if n.startswith(ACCELERATOR)),
        told.get("NodeManagerHostname", ""),
    )


def _connect(address: str) -> Any:
    import ray

    try:
        with _mute():
            ray.init(
                address=address,
                namespace=f"harness-{uuid.uuid4().hex}",
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        ray.shutdown()
        raise ValueError(refusal(error, address)) from None
    return ray


@contextlib.contextmanager
def _mute() -> Iterator[None]:
    """Nothing reaches standard error: Ray's C++ writes a line about its log level there."""
    try:
        kept = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
