"""plan.json: the trials that a suite's tables show, and when another run replaces them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness.planning.plan import Plan, Planned
from harness.records.index import Results
from harness.records.store import Store
from harness.suite import Suite
from harness.tools.redact import redacted

RESULTS = {"completed", "diverged"}  # statuses that a table shows


def write_plan(plan: Plan, command: str) -> dict[str, Any]:
    """Write the plan as the one that its suite shows; returns its content."""
    record = {**plan.record(), "command": command}
    plan.store.suite(plan.suite.name).write_plan(record)
    return record


def shown_trials(store: Store, name: str) -> list[Mapping[str, Any]]:
    """The entries of the stored plan whose trials have ended."""
    entries = store.suite(name).plan_or_empty().get("trials", [])
    found = Results(store)
    return [entry for entry in entries if found.ended(entry["trial_id"])]


def stored_suite(store: Store, name: str) -> Suite | None:
    """The suite of the stored plan; None if there is none that this version can read."""
    if store.kind_of(name) != "suite":
        return None
    try:
        # A record makes no code run: what is loaded here decides whether it can be read.
        stored = store.suite(name).plan_or_empty()["suite"]
        return Suite.model_validate({**stored, "plugins": ()})
    except (KeyError, TypeError, ValueError):
        return None


def hidden_trials(plan: Plan) -> str | None:
    """One line on trials that the stored plan shows and this one does not, and how to see both.

    A row whose sizes come from other trials (`match`) changes when those change, for example if a
    suite has grown by a seed. That hides nothing.
    """
    store, name = plan.store, plan.suite.name
    entries = shown_trials(store, name)
    before = stored_suite(store, name)
    if before is None:
        here = {row.trial_id for row in plan.rows if row.trial_id is not None}
        lost = {entry["trial_id"] for entry in entries} - here
    else:
        here = {row.role.trial.trial_id for row in plan.rows}
        gone = {_key(role.label, role.task, role.trial.seed) for role in before.roles()
                if role.trial.trial_id not in here}  # fmt: skip
        lost = {e["trial_id"] for e in entries if _key(e["label"], e["task"], e["seed"]) in gone}
    if not lost:
        return None
    command = redacted(str(store.suite(name).plan_or_empty().get("command", f"harness run {name}")))
    return (
        f"{name} showed {len(lost)} trials before that this run has not. The store keeps them: "
        f"`{command} --name NAME` shows them under another name"
    )


def _key(label: str, task: str, seed: int) -> tuple[str, str, int]:
    return label, task, seed


def can_show(plan: Plan, rows: Iterable[Planned]) -> bool:
    """Whether the plan may replace the stored one; `rows` are those that this run asked for.

    It may if it hides nothing, if it has a result that the stored one lacks, or if everything asked
    for has ended. A run that was stopped before that, or whose trials have all failed, has nothing
    to replace another run's results with.
    """
    states = {row.trial_id: plan.state(row) for row in plan.rows if row.trial_id is not None}
    ended = {trial_id for trial_id in states if plan.ended(trial_id)}
    before = {entry["trial_id"] for entry in shown_trials(plan.store, plan.suite.name)}
    if before <= ended:
        return bool(ended)
    results = {trial_id for trial_id in ended if states[trial_id] in RESULTS}
    over = all(plan.state(row) not in ("missing", "waiting") for row in rows)
    return bool(results - before) or bool(results and over)
