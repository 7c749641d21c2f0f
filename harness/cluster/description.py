"""A cluster as data: what every way of starting one is rendered from."""

from __future__ import annotations

import posixpath
import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, TypeAdapter, model_validator

from harness.environment import PREFIX
from harness.spec import Spec
from harness.tools.redact import redacted

# Ray's names of the accelerators that torch can use here; tests/cluster compares them with Ray's.
Accelerator = Literal[
    "V100", "P100", "T4", "P4", "K80", "A10G", "L4", "L40S", "A100", "H100", "H200", "H20", "B200",
    "B300", "GB200", "GB300", "RTX-PRO-6000",
]  # fmt: skip
_SECRET_WORDS = re.compile(r"PASS|PWD|TOKEN|SECRET|CREDENTIAL|(_|^)KEY(_|$)", re.IGNORECASE)


def _one_line(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("must be one line of printable text")
    return text


def _absolute(path: str) -> str:
    if not path.startswith("/") or posixpath.normpath(path) != path or path == "/":
        raise ValueError("must be an absolute path without `..` and without a slash at its end")
    return path


def _store(place: str) -> str:
    if "://" not in place:
        return _FOLDER.validate_python(place)
    if re.fullmatch(r"(s3|gs|az)://[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9._-]+)*", place) is None:
        raise ValueError("must be an absolute path or an address like s3://BUCKET/PREFIX")
    return place


# A DNS label, short enough that Kubernetes can append to it.
Name = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$")]
Line = Annotated[str, Field(max_length=1_000), AfterValidator(_one_line)]
# Paths are copied into shell scripts and YAML of four systems: none needs more than these.
Folder = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9/._-]+$", max_length=200), AfterValidator(_absolute)
]
_FOLDER: TypeAdapter[str] = TypeAdapter(Folder)
Store = Annotated[str, Field(max_length=200), AfterValidator(_store)]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$", max_length=200)]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=100)]
Place = Annotated[
    str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9._-]+$", max_length=300)
]
Count = Annotated[int, Field(ge=0, le=10_000)]
Seconds = Annotated[int, Field(ge=1, le=86_400)]
Port = Annotated[int, Field(ge=1024, le=65_535)]


class Machine(Spec):
    """One node: its size, and what it is called where nodes are rented."""

    cpus: Annotated[int, Field(ge=1, le=1024)]
    memory_gib: Annotated[int, Field(ge=2, le=32_768)]
    kubernetes_labels: dict[Line, Line] = Field(default_factory=dict, max_length=20)
    aws_instance: Word | None = None
    gcp_machine: Word | None = None


class Workers(Machine):
    """A group of equal nodes on which trials run."""

    name: Name
    min: Count = 1
    max: Annotated[int, Field(ge=1, le=10_000)] = 1
    gpus: Annotated[int, Field(ge=0, le=64)] = 0
    accelerator: Accelerator | None = None
    spot: bool = False

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} exceeds max {self.max}")
        if self.accelerator is not None and not self.gpus:
            raise ValueError(f"accelerator {self.accelerator} needs gpus >= 1")
        return self


class Shared(Spec):
    """The folder that every node sees under one path, with locks that hold between nodes."""

    path: Folder
    claim: Name | None = None  # Kubernetes: a PersistentVolumeClaim, ReadWriteMany
    nfs: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9.-]+:/[A-Za-z0-9/._-]*$")] = None


class Health(Spec):
    """When Ray gives a silent node up: after `threshold` failed checks in a row."""

    period_ms: Annotated[int, Field(ge=100, le=600_000)] = 1000
    timeout_ms: Annotated[int, Field(ge=100, le=600_000)] = 3000
    threshold: Annotated[int, Field(ge=1, le=1000)] = 5


class Ports(Spec):
    """The fixed ports of a Ray cluster, so that a firewall can name them."""

    gcs: Port = 6379
    dashboard: Port = 8265
    client: Port = 10001  # of ray://, on the head
    node_manager: Port = 8076
    object_manager: Port = 8077
    agent_grpc: Port = 8078
    agent_http: Port = 52365
    runtime_env_agent: Port = 8079
    metrics_export: Port = 8080
    first_worker: Port = 10002
    last_worker: Port = 10999

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        own = self.model_dump()
        first, last = own.pop("first_worker"), own.pop("last_worker")
        if first > last:
            raise ValueError(f"first_worker {first} exceeds last_worker {last}")
        seen: dict[int, str] = {}
        for name, port in own.items():
            if first <= port <= last:
                raise ValueError(f"{name} {port} lies among the workers' ports")
            if port in seen:
                raise ValueError(f"{name} and {seen[port]} are both {port}")
            seen[port] = name
        return self


class Slurm(Spec):
    """Where and how long a Slurm job runs."""

    partition: Word | None = None
    account: Word | None = None
    qos: Word | None = None
    gpu_type: Word | None = None  # as in --gpus-per-node=TYPE:N; sites name their own
    notice_seconds: Annotated[int, Field(ge=30, le=3600)] = 120  # of the limit, before it
    requeues: Count = 100  # after which the job is left to end
    tasks: Annotated[int, Field(ge=1, le=1000)] = 4  # of the array, one a node


class Kubernetes(Spec):
    """Where in a Kubernetes cluster."""

    namespace: Name = "default"
    grace_seconds: Annotated[int, Field(ge=10, le=3600)] = 60  # from a pod's notice to its end


class Aws(Spec):
    """Where on AWS."""

    region: Word
    ami: Word | None = None  # with Docker and, for GPUs, NVIDIA's runtime; unset, Ray's choice


class Gcp(Spec):
    """Where on Google Cloud."""

    project: Word
    region: Word
    zone: Word
    source_image: Word = "projects/deeplearning-platform-release/global/images/family/common-cu124"


class Cluster(Spec):
    """A cluster and what it runs. Everything rendered says the same, since it is read from here."""

    name: Name
    run: Annotated[tuple[Line, ...], Field(strict=False, min_length=1, max_length=100)]
    head: Machine
    workers: Annotated[tuple[Workers, ...], Field(strict=False, min_length=1, max_length=20)]
    shared: Shared
    store: Store
    data: Folder
    time_limit_minutes: Annotated[int, Field(ge=2, le=60 * 24 * 60)]
    image: Word | None = None  # of containers, with the harness in it; not for Slurm or by hand
    setup: Annotated[tuple[Line, ...], Field(strict=False, max_length=50)] = ()
    environment: dict[Variable, Line] = Field(default_factory=dict, max_length=100)
    # VARIABLE: "SECRET/KEY", its place in Kubernetes; elsewhere the variable must be set.
    secrets: dict[Variable, Place] = Field(default_factory=dict, max_length=50)
    health: Health = Health()
    ports: Ports = Ports()
    slurm: Slurm = Slurm()
    kubernetes: Kubernetes = Kubernetes()
    aws: Aws | None = None
    gcp: Gcp | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        names = [group.name for group in self.workers]
        if len({*names, "head"}) <= len(names):
            raise ValueError(f"workers need distinct names other than head, not {names}")
        for what, folder in (("store", self.store), ("data", self.data)):
            if "://" not in folder and not folder.startswith(f"{self.shared.path}/"):
                raise ValueError(
                    f"{what} {folder} must lie in the shared folder {self.shared.path}, "
                    "or nodes do not see each other's"
                )
        for name, value in self.environment.items():
            if _SECRET_WORDS.search(name) or redacted(value) != value:
                raise ValueError(
                    f"environment.{name} looks like a secret: name it under secrets, "
                    "and give its value on the cluster"
                )
            if name.startswith("RAY_") or name in (f"{PREFIX}DATA", f"{PREFIX}STORE"):
                raise ValueError(f"environment.{name} is set by other fields")
        taken = {"--store", "--address"} & {word.partition("=")[0] for word in self.run}
        if taken:
            raise ValueError(f"run: {', '.join(sorted(taken))} is added from the other fields")
        return self


__all__ = ["Cluster", "Machine", "Workers"]
