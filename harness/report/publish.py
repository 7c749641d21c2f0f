"""Publishing a suite: its tables, its report and its mirror in MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.records.collect import collect
from harness.records.store import Store


@dataclass(frozen=True)
class Published:
    """The outcome: a line per damaged record, and whether the mirror was interrupted."""

    damaged: list[str] = field(default_factory=list)
    interrupted: bool = False


def publish(
    store: Store,
    name: str,
    plan: Mapping[str, Any],
    command: str | None,
    launch: Mapping[str, Any] | None = None,
) -> Published:
    """Collect the ended trials of a plan, write the report, update the mirror.

    `command` is what the page shows as reproducing it; with None no report is written, for trials
    that are not results. `launch` is what the mirror records of a launch.

    Ctrl-C during the mirror's update is returned, not raised: the tables are written by then, and
    the mirror can be rebuilt at any time. Raises ValueError as `collect` and `write_report` do.
    """
    from harness.records.mirror.mirror import update
    from harness.report import write_report

    damaged = collect(store, name, plan)
    if command is not None:
        write_report(store.suite(name), command)
    try:
        update(store, name, launch)
    except KeyboardInterrupt:
        return Published(damaged, interrupted=True)
    return Published(damaged)


__all__ = ["Published", "publish"]
