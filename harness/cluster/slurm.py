"""Batch files for Slurm: Ray over the nodes of one job, or an array of nodes without Ray."""

from __future__ import annotations

import shlex

from .description import Cluster, Workers
from .ray_start import head_options, words, worker_options
from .shell import MADE, script, settings


def slurm(cluster: Cluster) -> dict[str, str]:
    """One job: a head and a worker on its first node, a worker on each other node."""
    group = only_group(cluster, "Slurm job")
    options = [f"--nodes={group.max}", "--ntasks-per-node=1", "--output=%x-%j.log"]
    return {"slurm.sh": _script(cluster, group, options, "slurm.sh")}


def slurm_array(cluster: Cluster) -> dict[str, str]:
    """An array of tasks, one node each, that share a suite's trials out by number."""
    group = only_group(cluster, "Slurm job")
    at_a_time = min(group.max, cluster.slurm.tasks)
    options = [
        f"--array=1-{cluster.slurm.tasks}%{at_a_time}",
        "--nodes=1",
        "--ntasks=1",
        "--output=%x-%A_%a.log",
    ]
    return {"slurm-array.sh": _script(cluster, group, options, "slurm-array.sh")}


def only_group(cluster: Cluster, what: str) -> Workers:
    """The cluster's group of workers. Raises ValueError if it has several."""
    if len(cluster.workers) > 1:
        names = ", ".join(group.name for group in cluster.workers)
        raise ValueError(f"a {what} has nodes of one kind; {cluster.name} has workers {names}")
    return cluster.workers[0]


def _script(cluster: Cluster, group: Workers, options: list[str], body: str) -> str:
    # The first node is head and worker.
    ray = words({**head_options(), **worker_options(group)})
    gpus = [f"GPUS={shlex.quote(_gpus(cluster, group))}"] if body == "slurm.sh" else []
    given = [
        *gpus,
        f"STORE={shlex.quote(cluster.store)}",
        f"REQUEUES={cluster.slurm.requeues}",
        f"[ $# -gt 0 ] || set -- {shlex.join(cluster.run)}",
    ]
    return script(
        _directives(cluster, group, options),
        settings(cluster, {"RAY_OPTIONS": ray}),
        "\n".join(given) + "\n",
        "slurm-common.sh",
        body,
    )


def _gpus(cluster: Cluster, group: Workers) -> str:
    if not group.gpus:
        return ""
    return ":".join(filter(None, (cluster.slurm.gpu_type, str(group.gpus))))


def _directives(cluster: Cluster, group: Workers, options: list[str]) -> str:
    site = cluster.slurm
    hours, minutes = divmod(cluster.time_limit_minutes, 60)
    options = [
        f"--job-name={cluster.name}",
        *options,
        f"--cpus-per-task={group.cpus}",
        f"--mem={group.memory_gib}G",
        *([f"--gpus-per-node={_gpus(cluster, group)}"] if group.gpus else []),
        f"--time={hours:02}:{minutes:02}:00",
        f"--signal=B:TERM@{site.notice_seconds}",
        "--requeue",
        "--open-mode=append",
        *(
            f"--{name}={value}"
            for name in ("partition", "account", "qos")
            if (value := getattr(site, name)) is not None
        ),
    ]
    return "#!/bin/bash\n" + "".join(f"#SBATCH {option}\n" for option in options) + f"{MADE}\n"


__all__ = ["only_group", "slurm", "slurm_array"]
