"""In-training truncation (arXiv 2510.02823): balanced truncation inside an early window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from .base import Arm


class InTrainingSpec(Arm):
    """Truncate to the energy rank of `tau`, `count` times between `start` and `end`.

    `tau` is the fraction of Hankel energy discarded at each event; `start` and `end` are
    fractions of the training steps. `gate` leaves a block alone unless its rank falls below
    (1 - gate) of its state dimension (the published code: 0.05).
    """

    timing: ClassVar[frozenset[str]] = frozenset({"start", "end", "count"})

    kind: Literal["in_training"]
    tau: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    start: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    end: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    count: Annotated[int, Field(ge=1)] = 4
    gate: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    keep: Literal["largest"] = "largest"
    moments: Literal["transport", "reset"] = "transport"

    def events(self, steps: int) -> tuple[int, ...]:
        if self.end < self.start:
            raise ValueError(f"the window ends at {self.end}, before its start at {self.start}")
        span = self.end - self.start
        # One more event than there are steps must coincide already.
        first = range(1, min(self.count, steps + 1) + 1)
        at = [round(steps * (self.start + span * k / self.count)) for k in first]
        if at[0] == 0 or len(set(at)) < len(at):
            shown = ", ".join(map(str, at[:4])) + (", ..." if len(at) > 4 else "")
            raise ValueError(
                f"`count` {self.count} truncations from `start` {self.start} to `end` {self.end} "
                f"of {steps} steps fall on steps {shown}: they must be different and not 0"
            )
        return tuple(at)

    def ranks(self, spectra: Sequence[Any]) -> list[int]:
        from harness.reduction import energy_rank

        ranks = [energy_rank(hsv, self.tau) for hsv in spectra]
        sizes = [len(hsv) for hsv in spectra]
        return [r if r < (1 - self.gate) * n else n for r, n in zip(ranks, sizes, strict=True)]
