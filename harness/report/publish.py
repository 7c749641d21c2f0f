"""Publishing a suite: its tables, its report, and its view in MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.records.collect import collect
from harness.records.store import Store


@dataclass(frozen=True)
class Published:
    """What came of it: a line for each damaged record, and whether the mirror was interrupted."""

    damaged: list[str] = field(default_factory=list)
    interrupted: bool = False


def publish(
    store: Store,
    name: str,
    plan: Mapping[str, Any],
    command: str | None,
    launch: Mapping[str, Any] | None = None,
) -> Published:
    """Collect the ended trials of a plan, write the report, bring the mirror up to date.

    `command` is what the page says to reproduce it by; None leaves the report out, for trials that
    stand apart from results. `launch` is what the mirror notes of a launch.

    Ctrl-C in the mirror, which anything makes again, is told rather than raised: the tables are
    there. Raises ValueError as `collect` and `write_report`.
    """
    from harness.records.mirror import update
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
