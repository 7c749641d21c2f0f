"""The rows of a comparison: which trials form a row, and which rows it is measured against.

A row is one (comparison, task, model, label). `arm` is the kind of its arm (the column `role`), and
`matches` names the row whose size it took. Two rows may use the same trial. Rows of another
comparison had other settings, so they are no reference. Old files record no comparison; there the
task alone decides.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from harness.arms import of_kind
from harness.records.sizes import block_sizes

PLACE = ["comparison", "task", "model"]  # rows that agree in these are compared

REQUIRED = (
    "trial_id", "task", "model", "label", "role", "matches", "seed", "protocol", "status",
    "metric", "higher_is_better", "test_metric", "state_dim_mean", "state_dim_total",
    "initial_state_dim", "train_flops", "flops_method", "seconds_total", "seconds_method",
    "exclusive", "threads", "peak_memory_bytes", "state_bytes", "step_latency_seconds", "device",
    "torch_version", "git_commit", "data_fingerprint",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A row: its names, the trials in its mean (indexed by seed), and how many were left out."""

    comparison: str | None
    task: str
    model: str
    label: str
    arm: str
    matches: str | None
    finished: pd.DataFrame
    diverged: int
    failed: int
    damaged: int
    every: pd.DataFrame

    @property
    def baseline(self) -> str | None:
        """`full` or `small` if other rows are measured against this one, else None."""
        return of_kind(self.arm).baseline

    @property
    def size_group(self) -> str:
        """Label of the row that sets this one's size: its own, unless it matches another."""
        return self.matches or self.label

    @cached_property  # each row is held against all others
    def setting(self) -> tuple[str | None, str, str, str, str]:
        """What two rows must have in common for their difference to mean anything."""
        data, protocol = self.constant("data_fingerprint"), self.constant("protocol")
        return self.comparison, self.task, self.model, str(data), str(protocol)

    @property
    def higher_is_better(self) -> bool:
        """The direction of the row's metric."""
        return bool(self.constant("higher_is_better"))

    def constant(self, column: str) -> object:
        """The one value of `column` in this row; None if no trial has one.

        Nulls are ignored: a trial that failed early never saw its data.
        Raises ValueError if the row mixes several.
        """
        values = self.every[column].dropna().unique()
        if len(values) == 0:
            return None
        if len(values) > 1:
            listed = ", ".join(sorted(map(str, values)))
            raise ValueError(f"row {self.label!r} of task {self.task} mixes {column}: {listed}")
        return values[0]


def collect(trials: pd.DataFrame) -> list[Row]:
    """The rows of a suite in reading order: per comparison, full first, then groups of equal size.

    Raises a one-line ValueError if columns are missing, there are no trials, a row mixes data
    fingerprints, metrics or protocols, or a row has two trials of one seed.
    """
    missing = [name for name in REQUIRED if name not in trials.columns]
    if missing:
        raise ValueError(f"the trials table lacks {', '.join(missing)}")
    if trials.empty:
        raise ValueError("no trial of this suite has ended, so there is nothing to compare")
    trials = _complete(trials)
    groups = trials.groupby([*PLACE, "label"], sort=False, dropna=False)
    return _in_reading_order([_row(group) for _, group in groups])


def reference_full(row: Row, rows: list[Row]) -> Row | None:
    """The full-size row that `row` is measured against; None unless there is exactly one.

    If its comparison has several, it is the one whose size this row (or the row it matches) started
    from.
    """
    candidates = [r for r in rows if r.baseline == "full" and r.setting == row.setting]
    if len(candidates) > 1:
        source = next(
            (r for r in rows if r.label == row.size_group and r.setting == row.setting), row
        )
        candidates = [r for r in candidates if _initial(r) == _initial(source)]
    return candidates[0] if len(candidates) == 1 else None


def reference_small(row: Row, rows: list[Row]) -> Row | None:
    """The small-from-scratch row at the size of `row`: the one that matches the same row.

    If several match it (by seed and by mean, say), the nearest in mean state dimension. If none
    does and `row` matches no other row, its size was given or chosen in training: then the small
    row that has the same sizes, seed by seed. Full and small rows have none.
    """
    if row.baseline is not None:
        return None
    smalls = [r for r in rows if r.baseline == "small" and r.setting == row.setting]
    candidates = [r for r in smalls if r.matches == row.size_group]
    if not candidates and row.matches is None:
        equal = [r for r in smalls if _equal_sizes(row, r)]
        candidates = [r for r in equal if r.matches is None] or equal
    return min(candidates, key=lambda r: _distance(r, row), default=None)


def _complete(trials: pd.DataFrame) -> pd.DataFrame:
    """Trials that failed before they knew their metric or protocol take those of their place.

    Tables from before comparisons, or plug-ins, were recorded get a column of nulls.
    """
    trials = trials.assign(
        comparison=trials.get("comparison"),
        plugins=trials.get("plugins", pd.Series(None, trials.index, dtype=object)),
    ).reset_index(drop=True)
    for column, unknown in (("metric", "metric"), ("higher_is_better", True), ("protocol", "?")):
        for _, known in trials.groupby(["comparison", "task"], sort=False, dropna=False)[column]:
            values = known.dropna().unique()
            gaps = known.index[known.isna()]
            if len(gaps):
                trials[column] = trials[column].astype(object)
                trials.loc[gaps, column] = values[0] if len(values) == 1 else unknown
    return trials


def _row(group: pd.DataFrame) -> Row:
    every = group.drop_duplicates("trial_id").sort_values("seed")
    task, model, label = (str(every[name].iloc[0]) for name in ("task", "model", "label"))
    twice = every.seed[every.seed.duplicated()]
    if len(twice):
        raise ValueError(f"row {label!r} of task {task} has two trials of seed {twice.iloc[0]}")
    failed, damaged = every.status == "failed", every.status == "damaged"
    # A test metric that is not a number is a divergence too, wherever it was noticed.
    numbers = np.isfinite(pd.to_numeric(every.test_metric, errors="coerce").astype(float))
    diverged = ~failed & ~damaged & ((every.status == "diverged") | ~numbers)
    row = Row(
        comparison=_text_or_none(every.comparison.iloc[0]),
        task=task,
        model=model,
        label=label,
        arm=str(every.role.iloc[0]),
        matches=_text_or_none(every.matches.iloc[0]),
        finished=every[~failed & ~damaged & ~diverged].set_index("seed"),
        diverged=int(diverged.sum()),
        failed=int(failed.sum()),
        damaged=int(damaged.sum()),
        every=every,
    )
    for column in ("data_fingerprint", "metric", "higher_is_better", "protocol", "role"):
        row.constant(column)
    return row


def _in_reading_order(rows: list[Row]) -> list[Row]:
    places = list(dict.fromkeys((r.comparison, r.task, r.model) for r in rows))
    sizes = list(dict.fromkeys(r.size_group for r in rows if r.baseline != "full"))

    def place(row: Row) -> tuple[int, int, int, str]:
        size = -1 if row.baseline == "full" else sizes.index(row.size_group)
        arm = of_kind(row.arm).table_place
        return places.index((row.comparison, row.task, row.model)), size, arm, row.arm

    return sorted(rows, key=place)


def _equal_sizes(one: Row, other: Row) -> bool:
    """Whether both have the same states in every block, in every seed that both have finished."""
    seeds = one.finished.index.intersection(other.finished.index)
    ours, theirs = (_sizes(row.finished.loc[seeds]) for row in (one, other))
    return bool(len(seeds)) and ours == theirs


def _sizes(trials: pd.DataFrame) -> list[list[float]]:
    """States of each block, trial by trial; where they are not recorded, their mean.

    Of a stack the mean order, rounded: what an arm that matches it has.
    """
    nothing = pd.Series(None, trials.index, dtype=object)
    dims, orders = trials.get("state_dims", nothing), trials.get("orders", nothing)
    return [
        [float(mean)]
        if known is None or np.ndim(known) == 0
        else [float(round(size)) for size in block_sizes(known, of_systems)]
        for known, of_systems, mean in zip(dims, orders, trials.state_dim_mean, strict=True)
    ]


def _distance(one: Row, other: Row) -> float:
    gap = abs(one.finished.state_dim_mean.mean() - other.finished.state_dim_mean.mean())
    return float(gap) if np.isfinite(gap) else float("inf")


def _initial(row: Row) -> set[str]:
    return {str(value) for value in row.every.initial_state_dim}


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
