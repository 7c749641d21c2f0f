"""What a store holds for the tests of one suite, and whether it was run as the suite defines."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from harness.records.schemas import flatten
from harness.records.suite_records import SuiteRecords
from harness.report.comparison.costs import on_one_machine
from harness.report.comparison.rows import Row, collect
from harness.report.ranks.rank_stability import by_row, measure
from harness.suite import Comparison, Suite, TrialSpec

# Fields that say how a trial is computed rather than what it is, or that differ within a row.
HOW = ("seed", "spec_version", "model.backend", "model.remember", "task.path", "task.content.path")
PARTIAL = {"--set", "--only"}  # options with which a run covers only some of the suite


class Absent(Exception):
    """A test cannot be made: the reason for `not run`."""


@dataclass
class Evidence:
    """A suite, and the store's records of it."""

    suite: Suite
    records: SuiteRecords
    _checked: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    @cached_property
    def trials(self) -> pd.DataFrame:
        """The suite's trials; empty if none has ended."""
        there = self.records.has_table("trials")
        return self.records.table("trials").to_pandas() if there else pd.DataFrame()

    @cached_property
    def partial_run(self) -> str:
        """The last command that ran the suite here, if it left out rows or changed settings.

        The tables then lack trials that the store may have.
        """
        plan = self.records.plan() if self.records.has_plan() else {}
        command = str(plan.get("command", ""))
        options = {word.partition("=")[0] for word in command.split()}
        return command if options & PARTIAL else ""

    @cached_property
    def rows(self) -> list[Row]:
        """The rows of the comparison."""
        return [] if self.trials.empty else collect(self.trials)

    @cached_property
    def stability(self) -> pd.DataFrame:
        """Rank stability by row, block, stretch and step."""
        if not self.records.has_table("spectra"):
            raise Absent("its spectra are not recorded here: spectra.parquet is missing")
        return by_row(measure(self.records.table("spectra")), self.trials)

    def row(self, comparison: Comparison, label: str) -> Row:
        """The row of this label, run as the suite defines it, with a finished seed.

        Raises:
            Absent: there is none, or it was trained differently.
        """
        name = comparison.row_label(label)
        found = [
            row
            for row in self.rows
            if row.label == name and row.comparison in (None, comparison.key)
        ]
        if not found or found[0].finished.empty:
            lost = ""
            if found:
                row = found[0]
                damaged = f", {row.damaged} damaged" if row.damaged else ""
                lost = f" ({row.diverged} diverged, {row.failed} failed{damaged})"
            raise Absent(f"no trial of {label!r} has finished here{lost}")
        differs = self._differs(comparison, label, found[0])
        if differs:
            raise Absent(f"not run as the suite defines it: {'; '.join(differs)}")
        return found[0]

    def _differs(self, comparison: Comparison, label: str, row: Row) -> list[str]:
        key = comparison.key, label
        if key not in self._checked:
            self._checked[key] = self._find_differences(comparison, label, row)
        return self._checked[key]

    def _find_differences(self, comparison: Comparison, label: str, row: Row) -> list[str]:
        found = [
            said
            for trial in row.finished.reset_index().itertuples()
            for said in deviations(
                comparison, label, int(trial.seed), getattr(trial, "spec_json", None)
            )
        ]
        matched = comparison.matched_label(label, comparison.arms[label])
        if matched is not None and not found:  # its size comes from there
            other = next((r for r in self.rows if r.label == comparison.row_label(matched)), None)
            found = [] if other is None else self._differs(comparison, matched, other)
        return list(dict.fromkeys(found))


def deviations(comparison: Comparison, label: str, seed: int, spec_json: Any) -> list[str]:
    """Where a trial's spec differs from the suite: `training.steps 2000 instead of 200000`.

    Ignores what a plan fills in (the sizes of a row that matches another) and what does not change
    results (the backend of the scan).
    """
    if not isinstance(spec_json, str):
        return ["its settings are not recorded"]
    try:
        trial = TrialSpec.model_validate_json(spec_json)
    except ValueError:
        return ["its settings are from another version of the harness"]
    arm = comparison.arms[label]
    wanted = TrialSpec(
        task=comparison.task, model=comparison.model, training=comparison.training, arm=arm,
        seed=seed,
    )  # fmt: skip
    left_out = set(HOW)
    if arm.sizes_of is None:
        wanted = wanted.resolved()
    elif arm.runs_as_full:
        left_out |= {"model.state_dim", "arm"}
    else:
        left_out |= {f"arm.{name}" for name in arm.planned}
    ours, theirs = (flatten(one.model_dump(mode="json")) for one in (trial, wanted))
    names = [
        name
        for name in dict.fromkeys((*theirs, *ours))
        if not any(name == one or name.startswith(f"{one}.") for one in left_out)
    ]
    return [
        f"{name} {_said(ours, name)} instead of {_said(theirs, name)}"
        for name in names
        if ours.get(name) != theirs.get(name)
    ]


def costs(row: Row, column: str) -> pd.Series:
    """The cost of each seed of a row; for seconds, only of trials that were timed alone.

    Raises:
        Absent: no trial was timed alone.
    """
    trials = row.finished
    if column == "flops":
        return trials.flops_method.astype(float)
    alone = trials[trials.exclusive.fillna(False).astype(bool)]
    if alone.empty:
        raise Absent(f"no trial of {row.label!r} was timed alone on its machine")
    if column == "published_seconds":
        return alone.seconds_protocol.astype(float)
    return alone.seconds_method.astype(float)


def paired_costs(
    row: Row, to: Row, plus: Row | None, column: str
) -> tuple[list[int], np.ndarray, np.ndarray]:
    """The seeds that all of these have, and the costs of `row` (with `plus`) and of `to` (seeds,).

    Seconds count only if all were measured on the same kind of machine.

    Raises:
        Absent: there is no such seed.
    """
    others = [to, *([plus] if plus is not None else [])]
    ours, *rest = (costs(one, column) for one in (row, *others))
    seeds = ours.index
    for one in rest:
        seeds = seeds.intersection(one.index)
    if column != "flops":
        for one in others:
            seeds = seeds.intersection(on_one_machine(row.finished.loc[seeds], one).index)
    if seeds.empty:
        names = " and ".join(repr(one.label) for one in (row, *others))
        raise Absent(f"{names} have no seed that was timed alone on the same kind of machine")
    spent = ours[seeds].to_numpy()
    if plus is not None:
        spent = spent + rest[1][seeds].to_numpy()
    return [int(seed) for seed in seeds], spent, rest[0][seeds].to_numpy()


def _said(flat: dict[str, Any], name: str) -> str:
    value = flat.get(name)
    return "nothing" if value is None else str(value)
