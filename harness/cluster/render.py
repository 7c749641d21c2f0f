"""Renders a cluster's description for each place that can run it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.tools.inputs import os_reason, shown

from .cloud import aws, gcp
from .description import Cluster
from .hosts import hosts
from .kubernetes import raycluster, rayjob
from .shell import MADE
from .skypilot import skypilot
from .slurm import slurm, slurm_array


def _yaml(name: str, *documents: Mapping[str, Any]) -> dict[str, str]:
    """One file of YAML; text of several lines stays readable."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: Dumper, value: str) -> yaml.ScalarNode:
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    said = yaml.dump_all(documents, Dumper=Dumper, sort_keys=False, width=100)
    return {f"{name}.yaml": f"{MADE}\n{said}"}


def _ray() -> str:
    return importlib.metadata.version("ray")


TARGETS: dict[str, Callable[[Cluster], dict[str, str]]] = {
    "hosts": hosts,
    "slurm": slurm,
    "slurm-array": slurm_array,
    "kubernetes": lambda cluster: _yaml("raycluster", raycluster(cluster, _ray())),
    "rayjob": lambda cluster: _yaml("rayjob", rayjob(cluster, _ray())),
    "aws": lambda cluster: _yaml("aws", aws(cluster)),
    "gcp": lambda cluster: _yaml("gcp", gcp(cluster)),
    "skypilot": lambda cluster: _yaml("skypilot", skypilot(cluster)),
}


def render(cluster: Cluster, target: str) -> dict[str, str]:
    """The files for one of `TARGETS`, by name.

    Raises:
        ValueError: one line; an unknown target, or what the description lacks for it.
    """
    if target not in TARGETS:
        raise ValueError(f"--for takes {', '.join(TARGETS)}, not {shown(target)}")
    return TARGETS[target](cluster)


def write(files: Mapping[str, str], folder: Path) -> list[Path]:
    """Write files into a folder, which is made; returns their paths.

    Raises:
        ValueError: the folder or a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text)
    except OSError as error:
        raise ValueError(f"cannot write {os_reason(error)}") from None
    return [folder / name for name in files]


__all__ = ["TARGETS", "render", "write"]
