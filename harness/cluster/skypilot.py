"""A task file for SkyPilot, which rents the nodes wherever it finds them."""

from __future__ import annotations

from typing import Any

from .description import Cluster
from .ray_start import environment, head_options, run_command, words, worker_options
from .shell import script
from .slurm import only_group


def skypilot(cluster: Cluster) -> dict[str, Any]:
    """As many nodes as the group has at most; the first is head and worker."""
    group = only_group(cluster, "SkyPilot task")
    if cluster.image is None:
        raise ValueError(f"{cluster.name} needs an image to run on SkyPilot")
    if cluster.shared.nfs is None:
        raise ValueError(f"{cluster.name} needs shared.nfs, SERVER:/EXPORT, on SkyPilot")
    resources: dict[str, Any] = {
        "image_id": f"docker:{cluster.image}",
        "cpus": f"{group.cpus}+",
        "memory": f"{group.memory_gib}+",
        "use_spot": group.spot,
        "autostop": {"idle_minutes": 10, "down": True},
    }
    if group.gpus:
        if group.accelerator is None:
            raise ValueError(f"workers {group.name} need an accelerator for SkyPilot to look for")
        resources["accelerators"] = f"{group.accelerator}:{group.gpus}"
    return {
        "name": cluster.name,
        "num_nodes": group.max,
        "resources": resources,
        "envs": {
            **environment(cluster),
            "RAY_AUTH_MODE": "token",
            "RAY_OPTIONS": words({**head_options(), **worker_options(group)}),
            "NFS": cluster.shared.nfs,
            "SHARED": cluster.shared.path,
            "STORE": cluster.store,
            "RUN": run_command(cluster, "auto"),
        },
        # Given by name: `sky launch --secret NAME` takes the value from the environment.
        "secrets": dict.fromkeys(["RAY_AUTH_TOKEN", *cluster.secrets]),
        "setup": _section("setup"),
        "run": _section("run"),
    }


def _section(name: str) -> str:
    """A part of scripts/skypilot.sh, which is one file so that shellcheck reads it."""
    return script("skypilot.sh").partition(f"# {name}\n")[2].partition("\n# end\n")[0] + "\n"


__all__ = ["skypilot"]
