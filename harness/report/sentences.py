"""Sentences that sum up a comparison, derived from its rows, and the notes under its table."""

import math

import pandas as pd

from harness.protocols import PROTOCOLS
from harness.report import presentation as show
from harness.report.statistics.intervals import NO_WIDTH


def notes(comparison: pd.DataFrame) -> list[str]:
    """All notes that a reader of the table needs and that apply to these rows."""
    return result_notes(comparison) + cost_notes(comparison)


def result_notes(comparison: pd.DataFrame) -> list[str]:
    """Notes on metrics, differences, relative FLOPs and times."""
    found = [
        "± is half the width of a 95 % interval (Student t) over all seeds. It covers initial "
        "weights and batch order, not the sampling of the test set, and is not adjusted for the "
        "number of rows.",
        "Differences are paired by seed; positive means better, whatever the metric's direction. "
        "The verdict is against small from scratch at equal size.",
        _top3(comparison),
        "FLOPs and time are totals relative to full size: they include compression and, for "
        '"train, then compress", the full training that comes first. Relative time is the median '
        "over seeds of the ratio to full size at the same seed.",
    ]
    for row in comparison[comparison.apply(show.unsteady, axis=1)].itertuples():
        found.append(
            f"† {row.task}, {row.label}: its time relative to full size ranges from "
            f"{row.relative_seconds_low:.2f} to {row.relative_seconds_high:.2f} over seeds, more "
            f"than a factor of {show.UNSTEADY:g}. Something else most likely kept the machine "
            "busy, so it means little."
        )
    untimed = comparison[comparison.timed_seeds < comparison.seeds]
    if len(untimed):
        left_out = int((untimed.seeds - untimed.timed_seeds).sum())
        found.append(
            "Seconds come only from trials that had their cores or GPU to themselves; "
            f"{left_out} of {int(comparison.seeds.sum())} are left out."
        )
    if (comparison.diverged > 0).any():
        found.append(
            "A row with diverged seeds shows how many there are and the mean of the rest; it has "
            "no interval and claims no win."
        )
    if (comparison.failed > 0).any():
        found.append(
            "Failed trials (ended by an error of their own) are counted but not in any mean."
        )
    if (comparison.damaged > 0).any():
        found.append(
            "Damaged trials have ended, but their records have changed since they were written; "
            "they are counted but not in any mean."
        )
    for row in comparison[comparison.mixed != ""].itertuples():
        found.append(f"* {row.task}, {row.label}: its trials mix {row.mixed}.")
    return found


def _top3(comparison: pd.DataFrame) -> str:
    """What the column `top 3` is, and which protocols report it."""
    said = (
        "Top 3 is the published aggregate: the mean of the three best seeds by test. It selects on "
        "the test set and is shown only for comparison with published tables."
    )
    reporting = [
        name
        for name in comparison.protocol.dropna().unique()
        if name in PROTOCOLS and PROTOCOLS[name].aggregate == "top3"
    ]
    if reporting:
        said += (
            f" Protocol {' and '.join(reporting)} reports it; means, intervals and verdicts here "
            "are over all seeds."
        )
    return said


def cost_notes(comparison: pd.DataFrame) -> list[str]:
    """Notes on the absolute costs."""
    found = []
    if comparison.seconds_median.notna().any():
        found.append("Seconds are totals: the median over seeds.")
    if comparison.peak_memory_bytes.notna().any():
        found.append(
            "Process MB on a CPU is the peak of the worker's whole process, including libraries "
            "and data cached for other trials, so do not compare arms by it; on a GPU it is the "
            "peak of allocated memory."
        )
    return found


def says(comparison: pd.DataFrame) -> list[str]:
    """For each group of rows of equal size: which arm won, how surely, and at what cost."""
    found = []
    for _, task in show.sections(comparison):
        several = comparison[comparison.task == task.task.iloc[0]]
        name = str(task.task.iloc[0])
        if several.model.nunique() > 1:
            name += f" ({task.model.iloc[0]})"
        if several.protocol.nunique() > 1:
            name += f" [{task.protocol.iloc[0]}]"
        reduced = task[~show.are_baseline(task.arm, "full")]
        if show.is_crowded(task):
            found += [f"{name}: {sentence}" for sentence in _crowd(reduced)]
            continue
        sizes = reduced.matches.where(reduced.matches.notna(), reduced.label)
        for _, group in reduced.groupby(sizes, sort=False):
            found.append(f"{name}, {_group(group)}")
    return found


def _crowd(rows: pd.DataFrame) -> list[str]:
    """A summary of many rows by verdict; the table has each."""
    found = []
    reduced = rows[~show.are_baseline(rows.arm, "small")]
    for method, ours in reduced.groupby(_methods(reduced), sort=False):
        counts = [
            (verdict, int((ours.verdict == verdict).sum()))
            for verdict in ("better", "undecided", "worse")
        ]
        said = [f"{count} {verdict}" for verdict, count in counts if count]
        without = len(ours) - sum(count for _, count in counts)
        said += [f"{without} without a verdict"] if without else []
        found.append(
            f"{len(ours)} rows of {method} against small from scratch of their "
            f"size: {', '.join(said)}."
        )
    measured = rows[rows.metric_mean.notna()]
    for size, ours in measured.groupby("state_dim_mean"):
        if len(ours) < 3:
            continue
        sign = 1 if ours.higher_is_better.iloc[0] else -1
        best = ours.loc[(sign * ours.metric_mean).idxmax()]
        found.append(
            f"{best.label} has the best mean at {size:g} states per block "
            f"({show.with_unit(best.metric_mean, best.metric)}) of {len(ours)} rows; the best of "
            f"so many is biased upwards. {_against_full(best)}"
        )
    return found


def _methods(rows: pd.DataFrame) -> pd.Series:
    """The arm of each row, with its variant if that has several sizes."""
    sizes = rows.groupby(["arm", "variant"]).state_dim_mean.transform("nunique")
    several = (sizes > 1).reindex(rows.index, fill_value=False)
    named = {
        index: ", ".join(
            [show.arm_name(str(row.arm)), *(show.variant(row.variant) if several[index] else ())]
        )
        for index, row in rows.iterrows()
    }
    return pd.Series(named)


def _group(group: pd.DataFrame) -> str:
    """A group of equal size, told from the row that the report is about; without such a row, each
    row against full."""
    measured = group[group.metric_mean.notna()]
    if measured.empty:
        return f"{group.label.iloc[0]}: no seed finished, so nothing can be said."
    ours = measured[show.are_subject(measured.arm)]
    if ours.empty:
        unfinished = [f"{label}: no seed finished." for label in group.label.drop(measured.index)]
        rest = [f"{row.label}: {_against_full(row)}" for _, row in measured.iterrows()]
        return " ".join(unfinished + rest)
    row = ours.iloc[0]
    said = [_against_small(row), _leader(row, measured), _against_full(row)]
    return f"{show.state_dim(row)} states per block ({row.label}): " + " ".join(filter(None, said))


def _against_small(row: pd.Series) -> str:
    if not isinstance(row.small_label, str):
        return "no small-from-scratch row has this size, so no win is claimed."
    if not math.isfinite(row.difference_to_small):
        return f"no seed has finished both here and in {row.small_label}, so no win is claimed."
    size = show.with_unit(abs(row.difference_to_small), row.metric, points=True)
    side = "better" if row.difference_to_small > 0 else "worse"
    gap = f"It is {size} {side} than small from scratch"
    name = show.arm_name(row.arm)
    return {
        "better": f"{name} wins. {gap}, and {_interval(row)} excludes 0.",
        "worse": f"{name} loses. {gap}, and {_interval(row)} excludes 0.",
        "undecided": f"{name} does not win. {gap}, but {_interval(row)} includes 0.",
    }.get(row.verdict, f"no win is claimed. {gap}, {_why_no_interval(row)}.")


def _interval(row: pd.Series) -> str:
    shown = show.shown_metric(row.metric)
    low, high = (
        show.plain(row[f"difference_to_small_{end}"] * shown.factor, shown.decimals, signed=True)
        for end in ("low", "high")
    )
    return f"the interval ({low} to {high}, {row.difference_to_small_seeds} seeds)"


def _why_no_interval(row: pd.Series) -> str:
    if row.difference_to_small_seeds < 2:
        return "but one seed gives no interval"
    if row.difference_to_small_high - row.difference_to_small_low <= NO_WIDTH:
        return "but every seed differs by exactly the same amount, so the spread is unknown"
    return "but a seed diverged on one side"


def _leader(row: pd.Series, group: pd.DataFrame) -> str:
    """Which row has the best mean in a group of several."""
    if len(group) < 2:
        return ""
    means = group.metric_mean if row.higher_is_better else -group.metric_mean
    best = group.loc[means.idxmax()]
    if best.label == row.label:
        return "It has the best mean at this size."
    ours, theirs = (show.with_unit(one.metric_mean, row.metric) for one in (row, best))
    name = show.arm_name(best.arm)
    return f"{name[:1].upper()}{name[1:]} has the best mean at this size ({theirs} against {ours})."


def _against_full(row: pd.Series) -> str:
    """The price: the loss against full size, and total FLOPs relative to it."""
    parts = []
    if math.isfinite(row.difference_to_full):
        size = show.with_unit(abs(row.difference_to_full), row.metric, points=True)
        side = "above" if row.difference_to_full > 0 else "below"
        parts.append(f"it is {size} {side} full size")
    if math.isfinite(row.relative_flops):
        parts.append(f"at {row.relative_flops:.2f} times its training FLOPs")
    text = ", ".join(parts) or "there is no full-size row to measure it against"
    return f"{text[0].upper()}{text[1:]}."
