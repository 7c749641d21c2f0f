"""Files for Ray's own autoscaler, on AWS and Google Cloud: `ray up`, `ray submit`, `ray down`."""

from __future__ import annotations

import shlex
from typing import Any

from .description import Aws, Cluster, Gcp, Machine, Workers
from .kubernetes import USER
from .ray_start import (
    TOKEN,
    environment,
    head_options,
    head_ports,
    node_ports,
    words,
)

SECRETS = "~/.harness/secrets"  # lines NAME=VALUE, mode 0600
BOOT_DISK_GB = 100  # for the image and its cache


def aws(cluster: Cluster) -> dict[str, Any]:
    """EC2 instances; spot where the description says so."""
    site = cluster.aws
    if site is None:
        raise ValueError(f"{cluster.name} has no [aws] with its region")

    def node(machine: Machine, what: str) -> dict[str, Any]:
        config: dict[str, Any] = {
            "InstanceType": _named(machine.aws_instance, what, "aws_instance")
        }
        config["BlockDeviceMappings"] = [
            {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": BOOT_DISK_GB, "VolumeType": "gp3"}}
        ]
        if site.ami is not None:
            config["ImageId"] = site.ami
        if isinstance(machine, Workers) and machine.spot:
            config["InstanceMarketOptions"] = {"MarketType": "spot"}
        return config

    return _autoscaler(cluster, _aws_provider(site), node)


def gcp(cluster: Cluster) -> dict[str, Any]:
    """Compute Engine instances, of kinds that bring their GPUs along (G2, A2, A3)."""
    site = cluster.gcp
    if site is None:
        raise ValueError(f"{cluster.name} has no [gcp] with its project, region and zone")

    def node(machine: Machine, what: str) -> dict[str, Any]:
        disk = {"diskSizeGb": BOOT_DISK_GB, "sourceImage": site.source_image}
        scheduling: dict[str, Any] = {"onHostMaintenance": "TERMINATE"}  # a GPU cannot be moved
        if isinstance(machine, Workers) and machine.spot:
            scheduling |= {"provisioningModel": "SPOT", "instanceTerminationAction": "DELETE"}
        return {
            "machineType": _named(machine.gcp_machine, what, "gcp_machine"),
            "disks": [
                {"boot": True, "autoDelete": True, "type": "PERSISTENT", "initializeParams": disk}
            ],
            "scheduling": scheduling,
        }

    return _autoscaler(cluster, _gcp_provider(site), node)


def _aws_provider(site: Aws) -> dict[str, Any]:
    # Nodes that were stopped would go on costing their disks.
    return {"type": "aws", "region": site.region, "cache_stopped_nodes": False}


def _gcp_provider(site: Gcp) -> dict[str, Any]:
    return {
        "type": "gcp",
        "region": site.region,
        "availability_zone": site.zone,
        "project_id": site.project,
    }


def _named(kind: str | None, what: str, field: str) -> str:
    if kind is None:
        raise ValueError(f"{what} has no {field}, the kind of machine to rent")
    return kind


def _autoscaler(cluster: Cluster, provider: dict[str, Any], node: Any) -> dict[str, Any]:
    if cluster.image is None:
        raise ValueError(f"{cluster.name} needs an image to run on a cloud")
    types = {
        "head": {
            "node_config": node(cluster.head, "head"),
            "resources": {"CPU": 0},
            "max_workers": 0,
        }
    }
    for group in cluster.workers:
        types[group.name] = {
            "node_config": node(group, f"workers {group.name}"),
            "resources": _resources(group),
            "min_workers": group.min,
            "max_workers": group.max,
        }
    return {
        "cluster_name": cluster.name,
        "max_workers": sum(group.max for group in cluster.workers),
        "idle_timeout_minutes": 5,
        "provider": provider,
        "auth": {"ssh_user": "ubuntu"},
        "docker": {
            "image": cluster.image,
            "container_name": "harness",
            "pull_before_run": True,
            "run_options": _docker_options(cluster),
        },
        "available_node_types": types,
        "head_node_type": "head",
        "file_mounts": {TOKEN: TOKEN, **({SECRETS: SECRETS} if cluster.secrets else {})},
        "initialization_commands": _mounts(cluster),
        "setup_commands": [
            f"chmod 700 {TOKEN.rpartition('/')[0]} && chmod 600 {TOKEN.rpartition('/')[0]}/*"
        ],
        "head_start_ray_commands": _start(
            cluster,
            f"--head --autoscaling-config=~/ray_bootstrap_config.yaml --dashboard-host=127.0.0.1 "
            f"{words({**head_ports(cluster), **head_options()})}",
        ),
        # What a kind of node offers comes from its `resources`, by RAY_OVERRIDE_RESOURCES.
        "worker_start_ray_commands": _start(
            cluster,
            f'--address="$RAY_HEAD_IP:{cluster.ports.gcs}" '
            f"{words({**node_ports(cluster), **_store_size()})}",
        ),
    }


def _store_size() -> dict[str, str]:
    name = "object-store-memory"
    return {name: head_options()[name]}


def _resources(group: Workers) -> dict[str, int]:
    found = {"CPU": group.cpus, "GPU": group.gpus}
    if group.accelerator is not None:
        found[f"accelerator_type:{group.accelerator}"] = 1
    return found


def _docker_options(cluster: Cluster) -> list[str]:
    options = [
        "--ulimit nofile=65536:65536",
        f"--volume {cluster.shared.path}:{cluster.shared.path}",
        "--env RAY_AUTH_MODE=token",
        f"--env RAY_AUTH_TOKEN_PATH=/home/harness/{TOKEN.removeprefix('~/')}",
    ]
    return options + [
        f"--env {shlex.quote(f'{name}={value}')}" for name, value in environment(cluster).items()
    ]


def _mounts(cluster: Cluster) -> list[str]:
    """Before the container starts: mount what the nodes share, for the image's user."""
    path = cluster.shared.path
    if cluster.shared.nfs is None:
        raise ValueError(f"{cluster.name} needs shared.nfs, SERVER:/EXPORT, on a cloud")
    export = shlex.quote(cluster.shared.nfs)
    folders = " ".join(one for one in (cluster.store, cluster.data) if one.startswith("/"))
    owned = f"sudo install -d -o {USER} -g {USER} {folders}"
    return [
        f"sudo mkdir -p {path}",
        f"mountpoint -q {path} || sudo mount -t nfs4 -o nfsvers=4.1,hard {export} {path}",
        owned,
    ]


def _start(cluster: Cluster, options: str) -> list[str]:
    secrets = f"set -a && . {SECRETS} && set +a && " if cluster.secrets else ""
    return ["ray stop", f"{secrets}ray start --disable-usage-stats {options}"]


__all__ = ["aws", "gcp"]
