"""Tells Ray that this node is about to go: it places nothing more here, and launches move what runs
here elsewhere."""

from __future__ import annotations

import time
from typing import Any

from .address import check_address
from .cluster import connected

LOOK_EVERY = 0.5  # seconds


def drain_this_node(seconds: int, wait: bool = False) -> str:
    """Drain the node of the cluster that runs on this machine; returns its id.

    With `wait`, return when nothing holds its CPUs or GPUs any more, at most after `seconds`.

    Raises:
        ValueError: no cluster runs here, or Ray refuses.
    """
    check_address("auto")
    deadline = time.monotonic() + seconds
    with connected("auto", 1) as ray:
        node_id: str = ray.get_runtime_context().get_node_id()
        drain(ray, node_id, seconds)
        while wait and time.monotonic() < deadline and not is_idle(ray, node_id):
            time.sleep(LOOK_EVERY)
    return node_id


def is_idle(ray: Any, node_id: str) -> bool:
    """Whether no worker holds CPUs or GPUs of the node, or the node is gone."""
    totals = {one["NodeID"]: one["Resources"] for one in ray.nodes()}
    has = totals.get(node_id, {})
    free = ray._private.state.available_resources_per_node().get(node_id, has)
    return all(free.get(kind, 0.0) >= has.get(kind, 0.0) for kind in ("CPU", "GPU"))


def drain(ray: Any, node_id: str, seconds: int) -> None:
    """Drain a node of the connected cluster that will be gone in this many seconds.

    Raises:
        ValueError: Ray refuses, as for the head's own node while jobs run.
    """
    from ray.core.generated import autoscaler_pb2

    # What the hidden command `ray drain-node` does, which starts a Ray of its own if it is not
    # told the node's id.
    client = ray._raylet.GcsClient(address=ray.get_runtime_context().gcs_address)
    accepted, why = client.drain_node(
        node_id,
        autoscaler_pb2.DrainNodeReason.Value(  # type: ignore[attr-defined]
            "DRAIN_NODE_REASON_PREEMPTION"
        ),
        "the machine is about to go",
        (time.time_ns() // 10**6) + seconds * 1000,
    )
    if not accepted:
        raise ValueError(f"Ray does not drain node {node_id}: {why}")


__all__ = ["drain", "drain_this_node", "is_idle"]
