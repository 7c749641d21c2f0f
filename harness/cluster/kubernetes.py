"""Manifests for KubeRay: a cluster that stays, or one that runs a suite and goes."""

from __future__ import annotations

from typing import Any

from .description import Cluster, Machine, Workers
from .ray_start import environment, head_options, run_command, worker_options

USER = 1000  # of the image
SHM = "512Mi"  # more than Ray's object store


def raycluster(cluster: Cluster, ray_version: str) -> dict[str, Any]:
    """A `RayCluster` that stays until it is deleted; suites are submitted to it."""
    return _resource(cluster, "RayCluster", _ray_cluster(cluster, ray_version))


def rayjob(cluster: Cluster, ray_version: str) -> dict[str, Any]:
    """A `RayJob`: a cluster that runs the suite, and goes ten minutes after it."""
    spec = {
        "entrypoint": run_command(cluster, "auto"),
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 600,
        "activeDeadlineSeconds": cluster.time_limit_minutes * 60,
        "backoffLimit": 3,  # a new cluster, and the run goes on from the store
        "rayClusterSpec": _ray_cluster(cluster, ray_version),
    }
    return _resource(cluster, "RayJob", spec)


def _resource(cluster: Cluster, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": cluster.name, "namespace": cluster.kubernetes.namespace}
    return {"apiVersion": "ray.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


def _ray_cluster(cluster: Cluster, ray_version: str) -> dict[str, Any]:
    return {
        "rayVersion": ray_version,
        "authOptions": {"mode": "token"},  # the operator makes the token and its secret
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {"idleTimeoutSeconds": 300},
        "headGroupSpec": {
            # Its service is reachable in the Kubernetes cluster only, and asks for the token.
            "rayStartParams": {**head_options(), "dashboard-host": "0.0.0.0"},
            "template": _pod(cluster, cluster.head, "ray-head"),
        },
        "workerGroupSpecs": [_group(cluster, group) for group in cluster.workers],
    }


def _group(cluster: Cluster, group: Workers) -> dict[str, Any]:
    template = _pod(cluster, group, "ray-worker")
    spec, container = template["spec"], template["spec"]["containers"][0]
    grace = cluster.kubernetes.grace_seconds
    spec["terminationGracePeriodSeconds"] = grace
    container["lifecycle"] = {"preStop": {"exec": {"command": _drain(grace)}}}
    if group.gpus:
        spec["tolerations"] = [
            {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
        ]
        for kind in ("limits", "requests"):
            container["resources"][kind]["nvidia.com/gpu"] = str(group.gpus)
    return {
        "groupName": group.name,
        "replicas": group.min,
        "minReplicas": group.min,
        "maxReplicas": group.max,
        "rayStartParams": worker_options(group),
        "template": template,
    }


def _drain(grace: int) -> list[str]:
    """A pod's last command: launches move the node's trials elsewhere, for which the pod stays as
    long as it may."""
    return ["harness", "cluster", "drain", "--wait", "--seconds", str(grace - 5)]


def _pod(cluster: Cluster, machine: Machine, name: str) -> dict[str, Any]:
    if cluster.image is None:
        raise ValueError(f"{cluster.name} needs an image to run on Kubernetes")
    if cluster.shared.claim is None:
        raise ValueError(f"{cluster.name} needs shared.claim, a volume claim, on Kubernetes")
    size = {"cpu": str(machine.cpus), "memory": f"{machine.memory_gib}Gi"}
    container = {
        "name": name,
        "image": cluster.image,
        "env": [*_variables(cluster), *_secrets(cluster)],
        "resources": {"limits": dict(size), "requests": dict(size)},
        "securityContext": {"allowPrivilegeEscalation": False},
        "volumeMounts": [
            {"name": "shared", "mountPath": cluster.shared.path},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }
    spec = {
        "containers": [container],
        "securityContext": {"runAsNonRoot": True, "runAsUser": USER, "fsGroup": USER},
        "volumes": [
            {"name": "shared", "persistentVolumeClaim": {"claimName": cluster.shared.claim}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": SHM}},
        ],
    }
    if machine.kubernetes_labels:
        spec["nodeSelector"] = dict(machine.kubernetes_labels)
    return {"spec": spec}


def _variables(cluster: Cluster) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in environment(cluster).items()]


def _secrets(cluster: Cluster) -> list[dict[str, Any]]:
    places = {name: place.split("/") for name, place in cluster.secrets.items()}
    return [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
        for name, (secret, key) in places.items()
    ]


__all__ = ["raycluster", "rayjob"]
