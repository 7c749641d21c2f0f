"""What is to be said of one node: what keeps it from taking part, and what to look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness import environment
from harness.records.meeting import has_met, store_of
from harness.tasks.storage.copies import Copy, DataSet

from ..cluster import Node
from ..ray_errors import told
from ..room import Room
from .facts import PACKAGES, names_of
from .needs import Needs

ANSWER = 60.0  # seconds that a node may take to answer; its first worker starts meanwhile
CLOCK = 60.0  # seconds by which clocks may differ; nothing but times in records depends on them
NO_ROOM, LITTLE_ROOM = 64e6, 500e6  # bytes of a disk: for a checkpoint, and for a day's work
# Settings that the launch gives to every worker, and those that may differ between nodes.
OWN = {environment.DEVICE.name, environment.THREADS.name}
OWN |= {environment.DATA.name, environment.DATA_MIRROR.name}


@dataclass(frozen=True)
class Report:
    """What a node answered, what keeps it from taking part, and what does not but may surprise."""

    node: Node
    facts: Mapping[str, Any] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def clock(self) -> tuple[float, float]:
        """Seconds by which its clock is ahead of ours, at least and at most."""
        least, most = self.facts["ahead"]
        return least, most


def report_on(
    node: Node, answer: Any, here: Mapping[str, Any], place: str | None, needs: Needs
) -> Report:
    """From a node's answer, the error in its place, or None if there was no answer; `here` are the
    facts of this process."""
    if answer is None:
        return Report(node, faults=(f"no answer within {ANSWER:.0f} s",))
    if isinstance(answer, Exception):
        return Report(node, faults=(told(answer)[1],))
    faults = [
        *_of_software(answer, here, needs),
        *_of_store(node, answer, place),
        *_of_data(answer["data"], here["data"]),
        *_of_gpus(node, answer["gpus"]),
    ]
    warnings = [*_of_missing_data(answer["data"]), *_of_clock(answer["ahead"])]
    for found, fatal in (*_of_disks(answer), *_of_memory(node, answer["memory"], needs)):
        (faults if fatal else warnings).append(found)
    return Report(node, answer, tuple(faults), tuple(warnings))


def code_of(found: Mapping[str, Any]) -> str:
    """The checksum of the harness, and the commit if it is known."""
    commit = f" (commit {found['commit']})" if found["commit"] else ""
    return f"{found['code']}{commit}"


def size(count: float) -> str:
    """Bytes as text."""
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _of_software(answer: Mapping[str, Any], here: Mapping[str, Any], needs: Needs) -> Iterator[str]:
    for name in ("python", *PACKAGES):
        if answer[name] != here[name]:
            yield f"{name} {answer[name]}, here {here[name]}"
    if answer["code"] != here["code"]:
        yield f"another harness, {code_of(answer)}, here {code_of(here)}"
    for name in sorted(answer["settings"].keys() - here["settings"].keys() - OWN):
        yield f"{name} is set there and not here, and workers would use it"
    for source in needs.packages:
        found = answer["plugins"][source.module]
        if found is None:
            yield f"the plug-in {source} is not installed"
        elif found != source.sha256:
            yield f"the plug-in {source} differs there from that here"


def _of_store(node: Node, answer: Mapping[str, Any], place: str | None) -> Iterator[str]:
    if answer["store"]:
        yield answer["store"]
    elif place is not None and not has_met(place, node.node_id):
        yield f"what it writes to {store_of(place)} does not arrive here"


def _of_data(there: Mapping[DataSet, Copy], here: Mapping[DataSet, Copy]) -> Iterator[str]:
    for data, copy in there.items():
        own = here[data]
        if copy.state == "unavailable":
            yield f"the data of {data.task} are not there: {data.path}"
        elif copy.state == "changed":
            yield f"the data of {data.task} are others there: {data.path}"
        elif own.state == copy.state == "there" and own != copy:
            yield (
                f"the data of {data.task} are others there, fingerprint {copy.fingerprint[:12]}, "
                f"here {own.fingerprint[:12]} ({data.folder} of the data folder)"
            )


def _of_missing_data(there: Mapping[DataSet, Copy]) -> Iterator[str]:
    states = {"missing": "not there yet: made", "unusable": "damaged there: made anew"}
    for data, copy in there.items():
        if copy.state in states:
            yield f"the data of {data.task} are {states[copy.state]} when a trial needs them"


def _of_disks(answer: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """What to say, and whether it is fatal: a store without room, or data that have none."""
    absent = any(copy.state in ("missing", "unusable") for copy in answer["data"].values())
    for what, (folder, left) in answer["free"].items():
        needed = what == "the store" or (what == "data" and absent)
        if left < LITTLE_ROOM:
            yield f"{size(left)} are free for {what} in {folder}", needed and left < NO_ROOM


def _of_memory(node: Node, memory: tuple[int, int], needs: Needs) -> Iterator[tuple[str, bool]]:
    """The same of memory: what a trial needs at least is known only by an estimate."""
    most, left = memory
    # Where Ray places no such trial, none can be in want.
    fit = [(shape, least) for shape, least in needs.memory if Room([node]).take(shape)]
    least = max((least for _, least in fit), default=0)
    asked = max([least, *(shape.memory for shape, _ in fit)])
    if least > most:
        yield (
            (
                f"a trial needs at least {size(least)} of memory, which has {size(most)}: "
                "with --memory Ray places none there"
            ),
            True,
        )
    elif asked > left:
        yield f"a trial takes {size(asked)} of memory, of which {size(left)} are free", False


def _of_clock(ahead: tuple[float, float]) -> Iterator[str]:
    least, most = ahead
    if least > CLOCK or most < -CLOCK:
        yield f"its clock is {told_clock(ahead)}; times in records and logs will be, too"


def told_clock(ahead: tuple[float, float]) -> str:
    """By how much a clock is off, as far as the time of question and answer lets us tell."""
    least, most = ahead
    if least <= 0.0 <= most:
        return f"as ours, within {max(-least, most, 0.1):.1f} s"
    middle, half = (least + most) / 2, (most - least) / 2
    way = "ahead of" if middle > 0 else "behind"
    return f"{abs(middle):.0f} s {way} ours (within {max(half, 0.1):.1f} s)"


def _of_gpus(node: Node, found: Mapping[str, Any] | None) -> Iterator[str]:
    if found is not None and len(found["found"]) < node.gpus:
        why = f" ({found['why']})" if found["why"] else ""
        usable = names_of(found["found"]) or "none"
        yield (
            f"Ray counts {node.gpus:g} GPUs, torch can use {len(found['found'])}{why}: {usable}"
            if found["found"]
            else f"Ray counts {node.gpus:g} GPUs, torch can use none{why}"
        )


__all__ = ["ANSWER", "Report", "code_of", "report_on", "size", "told_clock"]
