"""A Ray that only pretends: its workers end trials after a time, so thousands fit anywhere."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from harness.launch.cluster import Node


class Ref:
    """A reference to an answer that is there from `due` on, by the monotonic clock."""

    __slots__ = ("due", "value")

    def __init__(self, due: float, value: Any) -> None:
        self.due, self.value = due, value


class SimulatedRay:
    """What a launch uses of the module `ray`. A trial takes around `seconds`; `calls` counts what
    a real Ray would have sent to a worker."""

    exceptions = SimpleNamespace(RayError=type("RayError", (Exception,), {}))

    def __init__(self, workers: int, per_node: int, seconds: float, seed: int = 0) -> None:
        self.all_nodes = [
            Node(f"node-{i}", float(per_node), 0.0, f"node-{i}", f"10.0.{i // 250}.{i % 250}")
            for i in range(-(-workers // per_node))
        ]
        self.seconds, self.calls = seconds, 0
        self.random = random.Random(seed)
        self.places = itertools.cycle(node.node_id for node in self.all_nodes)

    def nodes(self) -> list[Node]:
        """The nodes, all of them alive."""
        return self.all_nodes

    def remote(self, _: type) -> Any:
        """The class of actors."""
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda **_: _Actor(self)))

    def wait(
        self, refs: list[Ref], num_returns: int = 1, timeout: float = 0.0, fetch_local: bool = True
    ) -> tuple[list[Ref], list[Ref]]:
        """Those whose answer is there, within the timeout."""
        end = time.monotonic() + timeout
        while True:
            now = time.monotonic()
            ready = [ref for ref in refs if ref.due <= now]
            if ready or now >= end:
                return ready, [ref for ref in refs if ref.due > now]
            time.sleep(max(0.0, min(end, min(ref.due for ref in refs)) - now))

    def get(self, ref: Ref) -> Any:
        """The answer."""
        return ref.value

    def kill(self, actor: Any, no_restart: bool = True) -> None:
        """End a worker."""


class _Actor:
    """A worker that tells its node, and says of each trial that it completed."""

    def __init__(self, ray: SimulatedRay) -> None:
        node_id = next(ray.places)

        def call(value: Any, after: Callable[[], float]) -> Any:
            def remote(*_: Any, **__: Any) -> Ref:
                ray.calls += 1
                return Ref(time.monotonic() + after(), value)

            return SimpleNamespace(remote=remote)

        told = {"step": 1, "steps": 2, "first_step": 0, "metric": None, "state_dims": [4]}
        self.where = call(node_id, lambda: 0.0)
        self.poll = call(told, lambda: 0.001)
        self.stop = call(None, lambda: 0.0)
        self.run = call(("completed", None), lambda: ray.seconds * ray.random.uniform(0.5, 1.5))


__all__ = ["SimulatedRay"]
