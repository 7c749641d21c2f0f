"""What a trial has cost so far, in all processes that ran it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from harness.training.costs.clocks import Clocks


@dataclass(frozen=True)
class Forked:
    """What a trial forked from, and the cost of that state: the other's work, not its own."""

    trial_id: str
    flops: int
    seconds: float
    exclusive: bool


@dataclass
class Spending:
    """Clocks, and what they do not show.

    lost: seconds of work that was repeated or never finished. keeping: seconds spent on states for
    other trials, which are not this trial's cost.
    """

    clocks: Clocks
    lost: float = 0.0
    restarts: int = 0
    forked: Forked | None = None
    keeping: float = 0.0

    @property
    def seconds(self) -> float:
        """Seconds that this trial took here so far, lost work included."""
        before = self.forked.seconds if self.forked else 0.0
        return self.clocks.total + self.lost - before

    def is_exclusive(self, here: bool) -> bool:
        """Whether the seconds may be compared: this process's (`here`), and those before a fork."""
        return here and (self.forked is None or self.forked.exclusive)

    def content(self) -> dict[str, Any]:
        """Its values in a checkpoint, as JSON."""
        return {
            "clocks": dict(self.clocks.seconds),
            "restarts": self.restarts,
            "lost": self.lost,
            "forked": asdict(self.forked) if self.forked else None,
            "keeping": self.keeping,
        }


def spending_of(content: dict[str, Any], device: torch.device) -> Spending:
    """The spending in a checkpoint, with one more restart."""
    forked = content["forked"]
    return Spending(
        Clocks(device, content["clocks"]),
        lost=content["lost"],
        restarts=content["restarts"] + 1,
        forked=None if forked is None else Forked(**forked),
        keeping=content["keeping"],
    )
