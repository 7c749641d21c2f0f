"""The cluster's autoscaler, if it has one: told what is wanted, asked what it can bring."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .cluster import Node
from .jobs import Lost, Shape
from .room import Room

MOST = 10_000  # workers asked for at a time
PATIENCE = 30.0  # seconds in which the autoscaler must have decided; it looks every 5 s
LOOK_EVERY = 0.5  # seconds
SETTLED = 3  # reports of the autoscaler on a request, after which it brings nothing more
READ_ONLY = "node_"  # so begin the types of nodes where Ray only reports them
Bundles = list[dict[str, float]]  # resources by name, for each worker


@dataclass(frozen=True)
class Report:
    """What the autoscaler last told: when, whether it had seen our request, whether nodes are on
    their way, and whether it can never meet the request."""

    at: float = 0.0
    seen: bool = False
    pending: bool = False
    impossible: bool = False


class Autoscaler:
    """Asks for nodes on behalf of a launch. `wanted` counts the workers that it could use now."""

    def __init__(self, request: Callable[[Bundles], None], report: Callable[[Bundles], Report]):
        self.request, self.report = request, report
        self.wanted: Counter[Shape] = Counter()
        self.told: Counter[Shape] = Counter()

    def tell(self) -> None:
        """Pass on what is wanted, if that has changed. It holds until it is told again."""
        wanted = +self.wanted
        if wanted != self.told:
            self.request(bundles(wanted))
            self.told = wanted

    def withdraw(self) -> None:
        """Want nothing more: nodes that are idle may go."""
        self.wanted = Counter()
        self.tell()

    def brings(self, shape: Shape, nodes: Callable[[], list[Node]]) -> bool:
        """Ask for one worker of this shape; whether a node for it has come or is on its way."""
        self.wanted[shape] = max(1, self.wanted[shape])
        self.tell()
        asked = bundles({shape: 1})
        reports: set[float] = set()
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and len(reports) < SETTLED:
            report = self.report(asked)
            if report.impossible:
                break
            if report.pending or Room(nodes()).take(shape):
                return True
            if report.seen:
                reports.add(report.at)
            time.sleep(LOOK_EVERY)
        del self.wanted[shape]
        return False


@contextlib.contextmanager
def asking(ray: Any, address: str) -> Iterator[Autoscaler | None]:
    """The connected cluster's autoscaler, if any; at the end nothing more is asked of it."""
    found, answers = find(ray, address), True
    try:
        yield found
    except Lost:
        answers = False
        raise
    finally:
        if found is not None and answers:
            found.withdraw()


def bundles(wanted: Mapping[Shape, int]) -> Bundles:
    """What is wanted in Ray's words, one entry a worker, the largest first."""
    shapes = sorted(wanted, key=lambda shape: shape[:3], reverse=True)
    return [shape.resources() for shape in shapes for _ in range(wanted[shape])][:MOST]


def find(ray: Any, address: str) -> Autoscaler | None:
    """The autoscaler of the connected cluster; None if it has none, or through ray://."""
    if address == "local" or address.startswith("ray://"):
        return None
    from ray.autoscaler.sdk import request_resources
    from ray.autoscaler.v2.utils import is_autoscaler_v2

    def request(wanted: Bundles) -> None:
        request_resources(bundles=wanted)

    def second(wanted: Bundles) -> Report:
        return report_second(_second_told(ray))

    def first(wanted: Bundles) -> Report:
        return report_first(_first_told(), wanted)

    if is_autoscaler_v2():
        return Autoscaler(request, second) if scales_second(_second_told(ray)) else None
    return Autoscaler(request, first) if scales_first(_first_told()) else None


def scales_first(told: Mapping[str, Any]) -> bool:
    """Whether Ray's first autoscaler starts nodes. Where it only reports on nodes that others have
    started, it makes up a type for each."""
    types = told.get("autoscaler_report", {}).get("node_type_mapping") or {}
    return any(not name.startswith(READ_ONLY) for name in types.values())


def report_first(told: Mapping[str, Any], wanted: Bundles) -> Report:
    """What the status of Ray's first autoscaler says of a request."""
    demands = [
        demand for demand, _ in told.get("load_metrics_report", {}).get("request_demand", [])
    ]
    report = told.get("autoscaler_report", {})
    return Report(
        at=told.get("time", 0.0),
        seen=all(one in demands for one in wanted),
        pending=bool(report.get("pending_launches") or report.get("pending_nodes")),
    )


def scales_second(told: Any) -> bool:
    """Whether Ray's second autoscaler starts nodes: those that it starts have a type."""
    return any(node.ray_node_type_name for node in told.cluster_resource_state.node_states)


def report_second(told: Any) -> Report:
    """What the state of Ray's second autoscaler says of the last request."""
    state = told.autoscaling_state
    return Report(
        at=state.autoscaler_state_version,
        seen=True,
        pending=bool(state.pending_instance_requests or state.pending_instances),
        impossible=bool(state.infeasible_cluster_resource_constraints),
    )


def _first_told() -> dict[str, Any]:
    """The status that the first autoscaler leaves in Ray's key-value store."""
    from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
    from ray.experimental.internal_kv import _internal_kv_get

    told = _internal_kv_get(DEBUG_AUTOSCALING_STATUS)
    return json.loads(told) if told else {}


def _second_told(ray: Any) -> Any:
    """The status that the second autoscaler leaves with the head: a `GetClusterStatusReply`."""
    from ray.core.generated import autoscaler_pb2

    told = autoscaler_pb2.GetClusterStatusReply()  # type: ignore[attr-defined]
    client = ray._raylet.GcsClient(address=ray.get_runtime_context().gcs_address)
    told.ParseFromString(client.get_cluster_status())
    return told


__all__ = ["Autoscaler", "Report", "asking"]
