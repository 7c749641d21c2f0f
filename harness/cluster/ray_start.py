"""What every way of starting Ray has in common: its options and its environment."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from harness.environment import DATA

from .description import Cluster, Workers

OBJECT_STORE_BYTES = 256 * 2**20  # trials go through the store; Ray's objects are a few kilobytes
TOKEN = "~/.harness/token"  # mode 0600 in a folder of mode 0700


def environment(cluster: Cluster) -> dict[str, str]:
    """Variables of every node, but for the token: how Ray behaves, and the harness's settings."""
    health = cluster.health
    return {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_health_check_period_ms": str(health.period_ms),
        "RAY_health_check_timeout_ms": str(health.timeout_ms),
        "RAY_health_check_failure_threshold": str(health.threshold),
        DATA.name: cluster.data,
        **cluster.environment,
    }


def head_options() -> dict[str, str]:
    """Options of `ray start` for a head on which no trial runs."""
    return {"num-cpus": "0", "num-gpus": "0", "object-store-memory": str(OBJECT_STORE_BYTES)}


def worker_options(group: Workers) -> dict[str, str]:
    """Options of `ray start` for a node of this group, but for the head's address."""
    return {
        "num-cpus": str(group.cpus),
        "num-gpus": str(group.gpus),
        "object-store-memory": str(OBJECT_STORE_BYTES),
    }


def head_ports(cluster: Cluster) -> dict[str, str]:
    """Options of `ray start` that fix a head's ports."""
    ports = cluster.ports
    return {
        "port": str(ports.gcs),
        "dashboard-port": str(ports.dashboard),
        "ray-client-server-port": str(ports.client),
        **node_ports(cluster),
    }


def node_ports(cluster: Cluster) -> dict[str, str]:
    """Options of `ray start` that fix the ports of any node."""
    ports = cluster.ports
    return {
        "node-manager-port": str(ports.node_manager),
        "object-manager-port": str(ports.object_manager),
        "dashboard-agent-grpc-port": str(ports.agent_grpc),
        "dashboard-agent-listen-port": str(ports.agent_http),
        "runtime-env-agent-port": str(ports.runtime_env_agent),
        "metrics-export-port": str(ports.metrics_export),
        "min-worker-port": str(ports.first_worker),
        "max-worker-port": str(ports.last_worker),
    }


def words(options: Mapping[str, str]) -> str:
    """Options as words of a command line."""
    return shlex.join(f"--{name}={value}" for name, value in options.items())


def run_command(cluster: Cluster, address: str) -> str:
    """`harness run` on this cluster, quoted for a shell."""
    where = ["--store", cluster.store, "--address", address]
    return shlex.join(["harness", "run", *cluster.run, *where])


__all__ = [
    "TOKEN",
    "environment",
    "head_options",
    "head_ports",
    "node_ports",
    "run_command",
    "words",
    "worker_options",
]
