"""What is free on each node, as far as the driver can tell: Ray decides where a worker goes."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from .cluster import Node
from .jobs import Shape

NEARLY = 1e-6  # what sums of fractions may be off by


class Room:
    """The free resources of nodes. A fraction of a GPU cannot span two."""

    def __init__(self, nodes: Iterable[Node]):
        self.free = {node.node_id: Free(node) for node in nodes}
        # Ray keeps what needs no GPU away from nodes that have some.
        self.without_gpus_first = sorted(self.free.values(), key=lambda free: free.node.gpus)

    def take(self, shape: Shape, away: Collection[str] = ()) -> bool:
        """Take a place for a worker on any node but these; false if there is none."""
        order = self.free.values() if shape.gpus else self.without_gpus_first
        for free in order:
            if free.node.node_id not in away and free.holds(shape):
                free.take(shape)
                return True
        return False

    def take_on(self, node_id: str, shape: Shape) -> bool:
        """Take the place of a worker that is known to be there; false if nothing was left."""
        free = self.free.get(node_id)
        if free is None:
            return True  # the node is gone, and holds nothing of what is left
        held = free.holds(shape)
        free.take(shape)
        return held


class Free:
    """The free resources of one node."""

    def __init__(self, node: Node):
        self.node, self.cpus, self.memory = node, node.cpus, node.memory
        whole = int(node.gpus)
        self.gpus = [1.0] * whole + ([node.gpus - whole] if node.gpus > whole else [])

    def holds(self, shape: Shape) -> bool:
        """Whether a worker of this shape fits."""
        return (
            shape.cpus <= self.cpus + NEARLY
            and shape.memory <= self.memory
            and shape.accelerator in (None, *self.node.accelerators)
            and self._gpus(shape) is not None
        )

    def take(self, shape: Shape) -> None:
        """Take its resources, as far as there are any."""
        self.cpus -= shape.cpus
        self.memory -= shape.memory
        for index in self._gpus(shape) or ():
            self.gpus[index] -= min(shape.gpus, 1.0)

    def _gpus(self, shape: Shape) -> list[int] | None:
        """The GPUs that it would get; None if there are too few."""
        share, count = min(shape.gpus, 1.0), max(1, round(shape.gpus))
        if not share:
            return []
        fit = [index for index, free in enumerate(self.gpus) if share <= free + NEARLY]
        return fit[:count] if len(fit) >= count else None


def lack(shape: Shape, nodes: Collection[Node]) -> str:
    """What keeps a worker of this shape from all of these nodes."""
    types = sorted({name for node in nodes for name in node.accelerators})
    if shape.accelerator is not None and shape.accelerator not in types:
        from difflib import get_close_matches

        near = get_close_matches(shape.accelerator, types, n=1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        return f"the {len(nodes)} nodes have GPUs of type {', '.join(types) or 'none'}{meant}"
    most = max(nodes, key=lambda n: (n.gpus, n.cpus, n.memory), default=Node("", 0, 0, memory=0))
    memory = f" and {most.memory / 1e9:.3g} GB of memory" if shape.memory else ""
    has = f"{most.cpus:g} CPUs and {most.gpus:g} GPUs{memory}"
    return f"the largest of {len(nodes)} nodes has {has}"


__all__ = ["Room", "lack"]
