"""Asks each node of a cluster, and refuses those that do not go together."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness import environment
from harness.records.meeting import meeting_place
from harness.tasks import data_folder
from harness.tasks.storage.copies import DataSet

from ..cluster import Node, nodes
from ..jobs import Job
from ..progress import ProgressSink
from .facts import examine, facts, what_is_here
from .lines import counted, grouped, warnings
from .needs import Needs, needs_of
from .report import ANSWER, Report, report_on

FAULT = 15.0  # seconds that a node may take to answer once another is known to be unfit


def check_places(
    ray: Any,
    nodes: list[Node],
    address: str,
    store: str,
    jobs: Sequence[Job],
    progress: ProgressSink,
) -> None:
    """Refuse a cluster whose nodes differ in what decides results, lack what these trials need, or
    do not share the store. Where trials can only run on this process's own node, nothing is asked.

    Raises:
        ValueError: one line that names each fault and the nodes that have it.
    """
    places = [node for node in nodes if node.cpus and not (node.leaving or node.drained)]
    if not address.startswith("ray://"):
        own = ray.get_runtime_context().get_node_id()
        if all(node.node_id == own for node in places):
            return
    progress.say(f"asking {counted(len(places))} for versions, data, devices and the store")
    found = reports(ray, store, places, needs_of(jobs))
    said = "; ".join(grouped((one.node.name, text) for one in found for text in one.faults))
    if said:
        raise ValueError(f"this cluster cannot run trials together: {said}")
    for line in warnings(found):
        progress.say(f"note: {line}")


def reports(
    ray: Any, store: str | None, asked: list[Node] | None = None, needs: Needs | None = None
) -> list[Report]:
    """What each node is, compared with this process and what trials need; by default each that may
    run trials. Without a store, the store is not looked at; else nothing stays in it."""
    asked = [node for node in nodes(ray) if node.cpus] if asked is None else asked
    needs = Needs(gpus=environment.DEVICE.get() != "cpu") if needs is None else needs
    given = environment.forwarded().get(environment.DATA.name)
    with contextlib.nullcontext() if store is None else meeting_place(store) as place:
        here = {**facts(), **what_is_here(needs, data_folder(given))}
        found = {
            node.node_id: report_on(node, answer, here, place, needs)
            for node, answer in _answers(ray, asked, place, needs, given, here)
        }
    return _of_one_kind([found[node.node_id] for node in asked], needs)


def _answers(
    ray: Any,
    asked: list[Node],
    place: str | None,
    needs: Needs,
    data_dir: str | None,
    here: Mapping[str, Any],
) -> Iterator[tuple[Node, Any]]:
    """Each node with its facts, or the error in their place, as they come; at last the nodes that
    have not answered, with None."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(examine)
    waited, sent = {}, time.time()
    begun = time.monotonic()
    for node in asked:
        there = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
        options = task.options(scheduling_strategy=there)
        waited[options.remote(place, node.node_id, node.gpus, needs, data_dir)] = node
    unfit = False
    while waited:
        left = begun + (FAULT if unfit else ANSWER) - time.monotonic()
        ready, _ = ray.wait(list(waited), num_returns=1, timeout=max(0.0, min(left, 1.0)))
        if not ready and left <= 0:
            break
        for ref in ready:
            node = waited.pop(ref)
            answer = _answer(ray, ref, sent)
            unfit |= isinstance(answer, Exception) or _differs(answer, here)
            yield node, answer
    yield from ((node, None) for node in waited.values())


def _answer(ray: Any, ref: Any, sent: float) -> Any:
    try:
        answer = ray.get(ref)
    except ray.exceptions.RayError as error:
        return error
    # Its first look at the clock came after the question, its last before the answer.
    first, last = answer["clock"]
    return {**answer, "ahead": (last - time.time(), first - sent)}


def _differs(answer: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    """Whether the node is certainly unfit, so that there is no need to wait for others."""
    return bool(answer["store"]) or answer["code"] != here["code"]


def _of_one_kind(reports: list[Report], needs: Needs) -> list[Report]:
    """With a fault where data differ from those of most nodes."""
    for data in needs.data:
        reports = _alike(reports, data)
    return reports


def _alike(reports: list[Report], data: DataSet) -> list[Report]:
    copies = {one.node.name: one.facts["data"][data] for one in reports if one.facts}
    there = {name: c.fingerprint for name, c in copies.items() if c.state == "there"}
    if len(set(there.values())) < 2:
        return reports
    usual, _ = Counter(there.values()).most_common(1)[0]
    witness = next(name for name, found in there.items() if found == usual)
    checked = []
    for one in reports:
        found = there.get(one.node.name, usual)
        said = f"the data of {data.task} are others there, fingerprint {found[:12]}, "
        if found != usual and not any(text.startswith(said) for text in one.faults):
            text = f"{said}on {witness} {usual[:12]} ({data.folder} of the data folder)"
            one = replace(one, faults=(*one.faults, text))
        checked.append(one)
    return checked


__all__ = ["check_places", "reports"]
