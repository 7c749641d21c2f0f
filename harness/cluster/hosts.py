"""Scripts for machines that are started by hand, or by their own supervisor."""

from __future__ import annotations

from .description import Cluster
from .ray_start import TOKEN, head_options, head_ports, node_ports, words, worker_options
from .shell import MADE, script, settings


def hosts(cluster: Cluster) -> dict[str, str]:
    """A script for the head, and one for the machines of each group of workers."""
    files = {"head.sh": _script(cluster, {**head_ports(cluster), **head_options()}, "head.sh")}
    for group in cluster.workers:
        options = {**node_ports(cluster), **worker_options(group)}
        files[f"worker-{group.name}.sh"] = _script(cluster, options, "worker.sh")
    return files


def _script(cluster: Cluster, options: dict[str, str], body: str) -> str:
    path = f'export RAY_AUTH_TOKEN_PATH="$HOME/{TOKEN.removeprefix("~/")}"\n'
    given = settings(cluster, {"RAY_AUTH_MODE": "token", "RAY_OPTIONS": words(options)})
    return script(f"#!/bin/bash\n{MADE}\n{given}{path}", body)


__all__ = ["hosts"]
