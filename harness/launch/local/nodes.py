"""A Ray of several nodes on this machine, to measure what several machines cost."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from ..cluster import GUEST, QUIET
from .folder import private_folder


@contextlib.contextmanager
def local_nodes(count: int) -> Iterator[Any]:
    """A Ray cluster on this machine: a head without CPUs, and nodes with one each."""
    folder = private_folder()
    settings: dict[str, Any] = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    variables = {
        "RAY_TMPDIR": str(folder),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
    }
    with _environment(**QUIET, **GUEST, **variables):
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={**settings, "num_cpus": 0})
        try:
            for _ in range(count):
                cluster.add_node(num_cpus=1, **settings)
            yield cluster
        finally:
            cluster.shutdown()


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, text in before.items():
            os.environ.pop(name, None)
            if text is not None:
                os.environ[name] = text


__all__ = ["local_nodes"]
