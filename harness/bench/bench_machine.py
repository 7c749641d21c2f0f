"""The machine that a benchmark runs on: checked and described."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
from typing import Any

import torch

from harness.environment import MOST_THREADS
from harness.tools.inputs import shown
from harness.training.host.machine import manifest, prepare

from .text_table import paragraph


def open_device(name: str, threads: int) -> torch.device:
    """The device, with threads set as for a trial.

    Raises:
        ValueError: neither cpu nor cuda, no GPU here, or a bad number of threads.
    """
    if threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    if threads > MOST_THREADS:
        raise ValueError(f"threads must be at most {MOST_THREADS}, not {threads}")
    if name not in ("cpu", "cuda"):
        raise ValueError(f"device is {shown(name)}; use cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is 'cuda', but no GPU can be used here")
    device = torch.device(name)
    prepare(device, threads)
    return device


def describe(device: torch.device, threads: int) -> dict[str, Any]:
    """Machine, versions, threads, commit and present load, as JSON."""
    versions: dict[str, str | None] = {}
    for name in ("numba", "triton"):
        versions[f"{name}_version"] = None
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[f"{name}_version"] = importlib.metadata.version(name)
    load = os.getloadavg()[0]
    return {**manifest(device, threads), **versions, "load_average": round(load, 2)}


def machine_lines(machine: dict[str, Any]) -> list[str]:
    """The machine as text."""
    identity = machine["identity"]
    said = f"{identity['device']}, {machine['cores']} cores, {identity['threads']} threads; "
    said += f"torch {identity['torch_version']}"
    for name in ("numba", "triton"):
        version = machine[f"{name}_version"]
        said += f", {name} {version}" if version else f", no {name}"
    commit = machine["git_commit"] or "outside git"
    return paragraph(f"{said}; commit {commit}; load average {machine['load_average']}")
