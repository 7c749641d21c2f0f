"""Ray itself: an own one or a running cluster, and what it has."""

from __future__ import annotations

import contextlib
import logging
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .local import own_ray


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
        ValueError: what answers at the address lets us not in; or Ray does not start here.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address == "local":
        with own_ray(cpus) as ray:
            yield ray
        return
    ray = _connect(address)
    try:
        yield ray
    finally:
        ray.shutdown()


def nodes(ray: Any) -> list[Node]:
    """The living nodes and their totals."""
    return [
        Node(n["NodeID"], n["Resources"].get("CPU", 0.0), n["Resources"].get("GPU", 0.0))
        for n in ray.nodes()
        if n["Alive"]
    ]


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
