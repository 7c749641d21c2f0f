"""Reports on nodes as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from harness.tools.inputs import shown
from harness.tools.redact import redacted

from .facts import PACKAGES, names_of
from .report import Report, code_of, size, told_clock


def grouped(said: Iterable[tuple[str, str]]) -> Iterator[str]:
    """From (node, text) a line for each text: `a, b: text`."""
    named: dict[str, list[str]] = {}
    for node, text in said:
        named.setdefault(text, []).append(node)
    for text, where in named.items():
        yield f"{', '.join(where)}: {text}"


def counted(nodes: int) -> str:
    """A number of nodes as text."""
    return "1 node" if nodes == 1 else f"{nodes} nodes"


def warnings(reports: Sequence[Report]) -> Iterator[str]:
    """A line for each warning, with the nodes that it is about."""
    yield from grouped((one.node.name, text) for one in reports for text in one.warnings)
    yield from unlike(reports)


def unlike(reports: Sequence[Report]) -> Iterator[str]:
    """What differs between nodes and lets trials run all the same, but not alike."""
    with_gpus = [(one.node.name, one.facts["gpus"]) for one in reports if one.facts.get("gpus")]
    told = {
        "GPUs": [(name, names_of(gpus["found"])) for name, gpus in with_gpus if gpus["found"]],
        "NVIDIA drivers": [(name, gpus["driver"]) for name, gpus in with_gpus if gpus["driver"]],
    }
    for what, kinds in told.items():
        if len({kind for _, kind in kinds}) > 1:
            yield (
                f"nodes have different {what}, so times and the last bits of results may differ: "
                f"{'; '.join(grouped(kinds))}"
            )


def described(report: Report) -> Iterator[str]:
    """Lines of text on one node."""
    node, found = report.node, report.facts
    yield f"node {node.name}: {node.cpus:g} CPUs, {node.gpus:g} GPUs"
    if found:
        versions = ", ".join(f"{name} {found[name]}" for name in ("python", *PACKAGES))
        yield f"  {versions}, harness {code_of(found)}"
        most, left = found["memory"]
        yield f"  memory: {size(left)} of {size(most)} free"
        disks = (
            f"{size(left)} for {what} in {folder}" for what, (folder, left) in found["free"].items()
        )
        yield f"  free disk: {', '.join(disks)}"
        yield f"  clock: {told_clock(report.clock)}"
        if found["gpus"] and found["gpus"]["found"]:
            gpus = found["gpus"]
            count = len(gpus["found"])
            yield (
                f"  {count} x {names_of(gpus['found'])}; CUDA {gpus['cuda']}, "
                f"driver {gpus['driver']}"
            )
        for name, text in found["settings"].items():
            yield f"  {name}={shown(redacted(text))}"
    yield from (f"  unfit: {fault}" for fault in report.faults)
    yield from (f"  note: {warning}" for warning in report.warnings)


__all__ = ["counted", "described", "grouped", "unlike", "warnings"]
