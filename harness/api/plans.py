"""`harness.plan`: what a suite still needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.planning.estimate import plan_summary
from harness.planning.plan import Plan
from harness.planning.plan_lines import plan_lines

from .stores import StoreLike, existing_or_new
from .suites import SuiteLike, suite_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class SuitePlan:
    """A suite's trials in a store, by stage: what is done and what the rest will cost.

    `summary` is what `harness plan --json` prints. `str()` is what `harness plan` prints.
    """

    summary: dict[str, Any]

    @property
    def stages(self) -> list[dict[str, Any]]:
        """What each stage lacks and will cost: `missing`, `estimated_flops`, `estimated_seconds`
        by device, `estimated_bytes`, ..."""
        return self.summary["stages"]

    @property
    def trials(self) -> list[dict[str, Any]]:
        """Every row and seed: `row`, `seed`, `state`, `trial_id`, `needs`, `blocked`, `stage`."""
        return [{**one, "stage": int(bool(one["needs"]))} for one in self.summary["trials"]]

    @property
    def missing(self) -> int:
        """Trials that are still to run, each once."""
        return sum(stage["missing"] for stage in self.stages)

    @property
    def done(self) -> int:
        """Trials that have ended, however they ended, each once."""
        ended = ("completed", "diverged", "failed", "damaged")
        return len({one["trial_id"] for one in self.trials if one["state"] in ended})

    def frame(self) -> pd.DataFrame:
        """`trials` as a data frame."""
        import pandas as pd

        columns = ["stage", "row", "seed", "state", "trial_id", "needs", "blocked"]
        return pd.DataFrame(self.trials, columns=columns)

    def __str__(self) -> str:
        return "\n".join(plan_lines(self.summary))

    __repr__ = __str__


def plan(suite: SuiteLike, store: StoreLike = None) -> SuitePlan:
    """What a suite still needs in a store, in which order, and at what estimated cost.

    Changes nothing. A store that does not exist yet counts as empty.

    Raises:
        ValueError: no such suite, or a store that cannot be one.
    """
    return SuitePlan(plan_summary(Plan(suite_of(suite), existing_or_new(store))))


__all__ = ["SuitePlan", "plan"]
