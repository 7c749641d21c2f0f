"""What a launch has spent and what went wrong, beyond how its trials ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .jobs import Job
from .pool import Pool, Slot


@dataclass
class Tally:
    """Sums over a launch; seconds are those for which its trials held CPUs and GPUs."""

    retries: int = 0  # attempts after a machine's fault
    takeovers: int = 0  # trials taken over from a process that had stopped
    quarantined: list[str] = field(default_factory=list)  # a line for each node
    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0
    names: dict[str, str] = field(default_factory=dict)  # of nodes, lost ones too, by id

    def spend(self, job: Job, seconds: float) -> None:
        """A job has held its resources for so long."""
        self.cpu_seconds += job.cpus * seconds
        self.gpu_seconds += job.gpus * seconds

    def spent(self, busy: Iterable[Slot], now: float) -> tuple[float, float]:
        """CPU-seconds and GPU-seconds, those of the running jobs included."""
        cpus, gpus = self.cpu_seconds, self.gpu_seconds
        for slot in busy:
            cpus += slot.cpus * (now - slot.since)
            gpus += slot.gpus * (now - slot.since)
        return cpus, gpus

    def place(self, slot: Slot, pool: Pool) -> str:
        """The name of a slot's node; empty until the node is known."""
        if slot.node_id is None:
            return ""
        if slot.node_id not in self.names:
            self.names |= {node.node_id: node.name for node in pool.nodes}
        return self.names.get(slot.node_id, slot.node_id)


__all__ = ["Tally"]
