"""Before a launch on several nodes: do all of them run the same code and see the same store?"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import platform
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from harness import environment
from harness.records.meeting import has_met, meet, meeting_place
from harness.tools.inputs import shown
from harness.tools.redact import redacted
from harness.training.host.commit import git_commit

from .cluster import Node, nodes
from .ray_errors import told

ANSWER = 60.0  # seconds that a node may take to answer; its first worker starts meanwhile
FAULT = 15.0  # the same, once another node is known to be unfit
PACKAGES = ("ray", "torch", "numpy")
# Settings that the launch gives to every worker, and those that may differ between nodes.
OWN = {environment.DEVICE.name, environment.THREADS.name}
OWN |= {environment.DATA.name, environment.DATA_MIRROR.name}


@dataclass(frozen=True)
class Report:
    """What a node answered, and what keeps it from taking part."""

    node: Node
    facts: Mapping[str, Any] = field(default_factory=dict)
    faults: tuple[str, ...] = ()


def check_nodes(ray: Any, store_root: Path) -> None:
    """Refuse a cluster whose nodes differ in what decides results, or do not share the store.

    Raises:
        ValueError: one line that names each fault and the nodes that have it.
    """
    named: dict[str, list[str]] = {}
    for report in reports(ray, store_root):
        for fault in report.faults:
            named.setdefault(fault, []).append(report.node.name)
    if named:
        said = "; ".join(f"{', '.join(where)}: {fault}" for fault, where in named.items())
        raise ValueError(f"this cluster cannot run trials together: {said}")


def reports(ray: Any, store_root: Path | None) -> list[Report]:
    """What each node that may run trials is, compared with this process. Without a store, the store
    is not looked at; else nothing stays in it."""
    asked = [node for node in nodes(ray) if node.cpus]
    with contextlib.nullcontext() if store_root is None else meeting_place(store_root) as place:
        here = facts()
        answers = _answers(ray, asked, place)
        return [_report(ray, node, answers.get(node.node_id), here, place) for node in asked]


def examine(place: str | None, mark: str) -> dict[str, Any]:
    """Runs on a node: its facts, and whether the meeting place is seen and takes its mark."""
    return {**facts(), "store": None if place is None else meet(Path(place), mark)}


def facts() -> dict[str, Any]:
    """Versions, code and settings of this process."""
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "commit": git_commit(),
        "code": code(),
        "settings": {v.name: v.text() for v in environment.VARIABLES if v.forwarded and v.text()},
    }


@cache
def code(root: Path = Path(__file__).parents[1]) -> str:
    """A checksum of the package's source files, wherever they are installed."""
    sums = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        sums.update(f"{path.relative_to(root)}\n".encode())
        sums.update(hashlib.sha256(path.read_bytes()).digest())
    return sums.hexdigest()[:12]


def described(report: Report) -> Iterator[str]:
    """Lines of text on one node."""
    node, found = report.node, report.facts
    yield f"node {node.name}: {node.cpus:g} CPUs, {node.gpus:g} GPUs"
    if found:
        versions = ", ".join(f"{name} {found[name]}" for name in ("python", *PACKAGES))
        yield f"  {versions}, harness {_code(found)}"
        for name, text in found["settings"].items():
            yield f"  {name}={shown(redacted(text))}"
    for fault in report.faults:
        yield f"  unfit: {fault}"


def _answers(ray: Any, asked: list[Node], place: Path | None) -> dict[str, Any]:
    """By node: its facts, or the error in their place. A node that does not answer is missing."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(examine)
    where = None if place is None else str(place)
    waited = {}
    for node in asked:
        there = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
        waited[task.options(scheduling_strategy=there).remote(where, node.node_id)] = node.node_id
    found: dict[str, Any] = {}
    begun = time.monotonic()
    while waited:
        unfit = any(isinstance(one, Exception) or one["store"] for one in found.values())
        left = begun + (FAULT if unfit else ANSWER) - time.monotonic()
        ready, _ = ray.wait(list(waited), num_returns=1, timeout=max(0.0, min(left, 1.0)))
        if not ready and left <= 0:
            break
        for ref in ready:
            node_id = waited.pop(ref)
            try:
                found[node_id] = ray.get(ref)
            except ray.exceptions.RayError as error:
                found[node_id] = error
    return found


def _report(
    ray: Any, node: Node, answer: Any, here: Mapping[str, Any], place: Path | None
) -> Report:
    if answer is None:
        return Report(node, faults=(f"no answer within {ANSWER:.0f} s",))
    if isinstance(answer, Exception):
        return Report(node, faults=(told(answer)[1],))
    faults = [
        f"{name} {answer[name]}, here {here[name]}"
        for name in ("python", *PACKAGES)
        if answer[name] != here[name]
    ]
    if answer["code"] != here["code"]:
        faults.append(f"another harness, {_code(answer)}, here {_code(here)}")
    for name in sorted(answer["settings"].keys() - here["settings"].keys() - OWN):
        faults.append(f"{name} is set there and not here, and workers would use it")
    if answer["store"]:
        faults.append(answer["store"])
    elif place is not None and not has_met(place, node.node_id):
        faults.append(f"what it writes to {place.parent} does not arrive here")
    return Report(node, answer, tuple(faults))


def _code(found: Mapping[str, Any]) -> str:
    commit = f" (commit {found['commit']})" if found["commit"] else ""
    return f"{found['code']}{commit}"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


__all__ = ["Report", "check_nodes", "described", "examine", "reports"]
