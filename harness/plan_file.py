"""plan.json: the trials that a suite's tables show, and when another run's take their place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness.plan import Plan, Planned
from harness.records.files import read_json, write_json
from harness.records.store import Store

RESULTS = {"completed", "diverged"}  # what a table has numbers or a verdict for


def write_plan(plan: Plan, command: str) -> dict[str, Any]:
    """Make the plan what its suite shows; returns what was written."""
    record = {**plan.record(), "command": command}
    write_json(plan.store.suite(plan.suite.name) / "plan.json", record)
    return record


def stored_plan(store: Store, name: str) -> dict[str, Any]:
    """The stored plan of a suite; empty where there is none, or none that can be read."""
    try:
        found = read_json(store.suite(name) / "plan.json")
    except (ValueError, OSError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("trials"), list) else {}


def shown(store: Store, name: str) -> list[Mapping[str, Any]]:
    """The entries of the stored plan whose trials have ended."""
    entries = stored_plan(store, name).get("trials", [])
    return [entry for entry in entries if store.trial(entry["trial_id"]).ended()]


def can_show(plan: Plan, rows: Iterable[Planned]) -> bool:
    """Whether the plan may take the place of the stored one, of which `rows` were asked for.

    It may if it hides nothing, if it has a result that the stored one has not, or if all that was
    asked for has ended. A run that was stopped before, or whose trials have all failed, has
    nothing to put in the place of what another run found.
    """
    ended: dict[str, str] = {}
    for row in plan.rows:
        result = plan.result(row.spec.trial_id) if row.spec is not None else None
        if row.spec is not None and result is not None:
            ended[row.spec.trial_id] = result["status"]
    before = {entry["trial_id"] for entry in shown(plan.store, plan.suite.name)}
    if before <= ended.keys():
        return bool(ended)
    results = {trial_id for trial_id, status in ended.items() if status in RESULTS}
    over = all(plan.state(row) not in ("missing", "waiting") for row in rows)
    return bool(results - before) or bool(results and over)
