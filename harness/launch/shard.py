"""Runs a part of a suite's trials one after another in this process, without Ray."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from harness.planning.plan import Plan, Planned
from harness.records.lease import Busy, Watch
from harness.records.store import Store
from harness.suite import Suite
from harness.tools.inputs import shown
from harness.tools.notes import say
from harness.training.alone import run_alone
from harness.training.trial import Interrupted

from .drain_marks import DrainMarks, drain_marks
from .preflight import check_launch, default_cpus

WAIT_SECONDS = 10.0  # between two looks for what other parts have ended
MARKS_EVERY = 30.0  # seconds between looks for drained nodes: there may be a thousand parts


@dataclass(frozen=True)
class Part:
    """The `number`-th of `of` parts, counted from 1."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """The part that a text like `2/8` names. Raises ValueError for any other."""
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise ValueError(f"--part takes NUMBER/OF, from 1/OF to OF/OF, not {shown(text)}")
        return cls(int(found[1]), int(found[2]))


def run_shard(
    suite: Suite, store: Store, part: Part, wait: Callable[[float], None] = time.sleep
) -> list[str]:
    """Run every `of`-th trial of the suite; returns a line for each that has no usable result.

    What a trial of this part needs from another part is run here too, unless another process is at
    it, which is waited for: parts need not run at the same time. Whatever their number, the results
    are the same. Tables are made afterwards, by `harness run`. On a node that is marked as drained
    the running trial takes a checkpoint, and no other begins.

    Raises:
        ValueError: bad input, before anything is written.
        KeyboardInterrupt: it was interrupted; the trial that ran has taken a checkpoint.
    """
    plan = Plan(suite, store)
    if store.kind_of(suite.name) == "study":
        raise ValueError(f"{store.address} holds a study {suite.name}")
    rows = _rows_of(plan, part)
    check_launch(
        (row.spec or row.role.trial for row in rows if plan.state(row) in ("missing", "waiting")),
        "local",
        default_cpus(),
        _gpus(),
    )
    refused: dict[str, str] = {}
    with drain_marks(store, MARKS_EVERY) as marks:
        told, watch = False, Watch()
        while (todo := _todo(plan, rows, refused)) is not None:
            if marks.is_here:
                host = socket.gethostname()
                say(
                    f"{host} is drained: part {part.number}/{part.of} ends here, and goes on "
                    f"elsewhere, or after harness cluster drain {host} --undo, by the same command"
                )
                break
            if not _run_first(plan, todo, store, refused, watch, marks):
                if not told:
                    say(f"part {part.number}/{part.of} waits for what other processes run")
                told = True
                wait(WAIT_SECONDS)
    return [line for row in rows if (line := _unfinished(plan, row, refused)) is not None]


def _rows_of(plan: Plan, part: Part) -> list[Planned]:
    """Every `of`-th distinct trial, in the plan's order."""
    distinct = {row.role.trial.trial_id: row for row in plan.rows}
    return [*distinct.values()][part.number - 1 :: part.of]


def _gpus() -> float:
    import torch

    return float(torch.cuda.is_available())


def _todo(plan: Plan, rows: list[Planned], refused: dict[str, str]) -> list[Planned] | None:
    """What can run now of these rows, or else of what they need; None if nothing is left."""
    plan.look()
    left = [
        row
        for row in rows
        if plan.state(row) in ("missing", "waiting")
        and not refused.keys() & {row.spec.trial_id if row.spec else "", *row.needs}
    ]
    if not left:
        return None
    return _ready(plan, left) or _ready(plan, _needed(plan, left))


def _needed(plan: Plan, rows: list[Planned]) -> list[Planned]:
    """The rows that these need, and those that they need in turn."""
    found: dict[int, Planned] = {}
    while rows:
        ids = {trial_id for row in rows for trial_id in row.needs}
        rows = [r for r in plan.rows if r.role.trial.trial_id in ids and id(r) not in found]
        found |= {id(row): row for row in rows}
    return [*found.values()]


def _ready(plan: Plan, rows: list[Planned]) -> list[Planned]:
    return [row for row in rows if plan.state(row) == "missing" and plan.ready(row)]


def _run_first(
    plan: Plan,
    todo: list[Planned],
    store: Store,
    refused: dict[str, str],
    watch: Watch,
    marks: DrainMarks,
) -> bool:
    """Run the first trial that no other process runs; whether there was one."""
    for row in todo:
        assert row.spec is not None
        try:
            result = run_alone(row.spec, store, watch, lambda: marks.is_here)
        except Busy:
            continue
        except Interrupted:
            return True
        except ValueError as error:
            refused[row.spec.trial_id] = str(error)
            return True
        say(f"{result['status']} {row.name}, seed {row.role.trial.seed}")
        return True
    return False


def _unfinished(plan: Plan, row: Planned, refused: dict[str, str]) -> str | None:
    state = plan.state(row)
    if state in ("completed", "diverged"):
        return None
    trial_id = row.spec.trial_id if row.spec else ""
    lacking = (refused[need] for need in row.needs if need in refused)
    reason = row.blocked or refused.get(trial_id) or next(lacking, None)
    reason = reason or (plan.result(trial_id) or {}).get("message")
    said = f"{state} {row.name}, seed {row.role.trial.seed}"
    return f"{said}: {reason}" if reason else said


__all__ = ["Part", "run_shard"]
