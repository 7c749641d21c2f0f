"""plan.json: the trials that a suite's tables show, and when another run's take their place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness.planning.plan import Plan, Planned
from harness.records.store import Store
from harness.suite import Suite
from harness.tools.redact import redacted

RESULTS = {"completed", "diverged"}  # what a table has numbers or a verdict for


def write_plan(plan: Plan, command: str) -> dict[str, Any]:
    """Make the plan what its suite shows; returns what was written."""
    record = {**plan.record(), "command": command}
    plan.store.suite(plan.suite.name).write_plan(record)
    return record


def shown(store: Store, name: str) -> list[Mapping[str, Any]]:
    """The entries of the stored plan whose trials have ended."""
    entries = store.suite(name).plan_or_empty().get("trials", [])
    return [entry for entry in entries if store.trial(entry["trial_id"]).ended()]


def stored_suite(store: Store, name: str) -> Suite | None:
    """The suite that the stored plan is of; None where there is none that this version can read."""
    if store.kind_of(name) != "suite":
        return None
    try:
        # A record makes no code run: what is loaded here decides whether it can be read.
        stored = store.suite(name).plan_or_empty()["suite"]
        return Suite.model_validate({**stored, "plugins": ()})
    except (KeyError, TypeError, ValueError):
        return None


def hidden(plan: Plan) -> str | None:
    """What the stored plan shows and this one will not, and how to see both, in one line.

    A row whose size follows from other trials (`match`) is another one when those are others, as
    in a suite that has grown by a seed: that hides nothing.
    """
    store, name = plan.store, plan.suite.name
    entries = shown(store, name)
    before = stored_suite(store, name)
    if before is None:
        here = {row.spec.trial_id for row in plan.rows if row.spec is not None}
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
    """Whether the plan may take the place of the stored one, of which `rows` were asked for.

    It may if it hides nothing, if it has a result that the stored one has not, or if all that was
    asked for has ended. A run that was stopped before, or whose trials have all failed, has
    nothing to put in the place of what another run found.
    """
    states = {row.spec.trial_id: plan.state(row) for row in plan.rows if row.spec is not None}
    ended = {trial_id for trial_id in states if plan.ended(trial_id)}
    before = {entry["trial_id"] for entry in shown(plan.store, plan.suite.name)}
    if before <= ended:
        return bool(ended)
    results = {trial_id for trial_id in ended if states[trial_id] in RESULTS}
    over = all(plan.state(row) not in ("missing", "waiting") for row in rows)
    return bool(results - before) or bool(results and over)
