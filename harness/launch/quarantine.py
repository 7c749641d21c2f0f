"""Nodes that get no more trials, because they failed by their own fault."""

from __future__ import annotations

from collections import defaultdict

from .jobs import Job
from .pool import Pool, Slot
from .ray_errors import UNFIT, is_lack_of_memory, is_lost_node, is_unreachable

SOON = 30.0  # seconds from a trial's start within which a fault is held against its node
STRIKES = 2  # trials


class Quarantine:
    """What is held against each node, and whether a node is kept away from trials."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.struck: defaultdict[str, set[str]] = defaultdict(set)

    def excuses(self, slot: Slot, job: Job, status: str, message: str) -> bool:
        """Whether this end of a trial was the fault of a node without workers, on which it will not
        be tried again: it costs no attempt."""
        return (
            status in ("fault", "refused")
            and message.startswith(UNFIT)
            and slot.node_id is not None
            and (slot.node_id in self.pool.banned or self.pool.can_spare(slot.node_id, job))
        )

    def judge(self, slot: Slot, job: Job, status: str, message: str, seconds: float) -> str | None:
        """Hold an end against the node; if it now gets no more trials, a line that says why.

        The last node that can hold the trial is never kept away.
        """
        node_id = slot.node_id
        if node_id is None or status not in ("fault", "refused"):
            return None
        if message.startswith(UNFIT):
            why = message
        elif status == "fault" and seconds <= SOON and not _is_excused(message):
            self.struck[node_id].add(job.trial_id)
            if len(self.struck[node_id]) < STRIKES:
                return None
            why = f"{STRIKES} trials failed there within {SOON:.0f} s, the last one: {message}"
        else:
            return None
        if node_id in self.pool.banned or not self.pool.can_spare(node_id, job):
            return None
        name = self.pool.ban(node_id)
        return f"node {name} gets no more trials: {why}"


def _is_excused(message: str) -> bool:
    """The trial itself may need too much memory; a lost node gets no trials anyway."""
    return is_lack_of_memory(message) or is_lost_node(message) or is_unreachable(message)


__all__ = ["Quarantine"]
