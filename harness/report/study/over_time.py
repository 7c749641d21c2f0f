"""The finalists over training: validation curve and state dimension, on fresh seeds."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from harness.records.sizes import block_sizes
from harness.report.legend import FULL_LINE
from harness.report.study.window import setting
from harness.report.style import INK, described, finalist_colours, nothing, shown

LATE = 0.7  # fraction of training after which the end is shown enlarged


def over_time(
    trials: pd.DataFrame,
    curves: pd.DataFrame,
    truncations: pd.DataFrame,
    labels: Sequence[str],
) -> Figure:
    """Mean over seeds, with a band from the lowest seed to the highest, for `labels` and full.

    Top: the validation curve, whole and its end. Bottom: the state dimension, and the legend.

    Steps are shown as a percentage of training. A row's curve leaves out steps that any of its
    completed seeds lacks, so that every mean is over the same seeds. The state dimension is the
    mean over blocks, in complex states.
    """
    figure = Figure(figsize=(9.4, 5.6), layout="constrained")
    grid = figure.subplots(2, 2, height_ratios=[3, 2], width_ratios=[3, 2])
    (above, late), (below, names) = grid
    names.set_axis_off()
    done = trials[trials.status == "completed"]
    rows = [label for label in dict.fromkeys(["full", *labels]) if (done.label == label).any()]
    curves = curves[(curves.split == "validation") & curves.trial_id.isin(done.trial_id)]
    curves = curves[curves.metric == done.metric.iloc[0]] if rows else curves
    if not rows or curves.empty:
        for axes in (above, late, below):
            nothing(axes)
        return figure
    factor = shown(
        above, str(done.metric.iloc[0]), bool(done.higher_is_better.iloc[0]), "validation"
    )
    looks: dict[str, Any] = {"full": INK, **finalist_colours(list(labels))}
    last = int(curves.step.max())
    for label in rows:
        seeds = done[done.label == label].drop_duplicates("seed")
        style = {"color": looks[label], "zorder": 3 if label == "full" else 4}
        wide = _wide(curves, seeds) * factor
        _curve(above, wide, last, _named(trials, label), style)
        _curve(late, wide[wide.index >= LATE * last], last, None, style)
        _curve(below, _dims(truncations, seeds, last), last, None, style, steps=True)
    _finish(above, late, below, factor)
    names.legend(*above.get_legend_handles_labels(), loc="upper left", frameon=False,
                 handlelength=1.8, fontsize=8.5, borderaxespad=0)  # fmt: skip
    return figure


def _curve(
    axes: Axes, wide: pd.DataFrame, last: int, name: str | None, style: Any, steps: bool = False
) -> None:
    """`wide` (steps x seeds): its mean as a line, its range as a band."""
    if wide.empty:
        return
    share = 100 * wide.index.to_numpy(dtype=float) / last
    post: Any = {"drawstyle": "steps-post"} if steps else {}
    axes.plot(share, wide.mean(axis=1), linewidth=1.7, label=name, **post, **style,
              linestyle=FULL_LINE if style["color"] == INK else "-")  # fmt: skip
    if wide.shape[1] > 1:
        axes.fill_between(share, wide.min(axis=1), wide.max(axis=1), color=style["color"],
                          alpha=0.1, linewidth=0, step="post" if steps else None)  # fmt: skip


def _wide(curves: pd.DataFrame, seeds: pd.DataFrame) -> pd.DataFrame:
    """Validation metric (steps x seeds), at the steps that every seed has.

    If a step is measured twice, before and after a truncation, the later value counts.
    """
    ours = curves[curves.trial_id.isin(seeds.trial_id)]
    wide = ours.groupby(["step", "trial_id"], sort=True).value.last().unstack("trial_id")
    return wide.dropna()


def _dims(truncations: pd.DataFrame, seeds: pd.DataFrame, last: int) -> pd.DataFrame:
    """State dimension (steps x seeds), mean over blocks; it changes at the steps of the index."""
    columns = {}
    for trial in seeds.itertuples():
        events = truncations[truncations.trial_id == trial.trial_id].sort_values("step")
        after = _sizes_after(events)
        before = after.groupby(events.block).shift().fillna(events.dim_before)
        change = (after - before).groupby(events.step).sum()
        total = float(trial.initial_state_dim) + change.cumsum() / len(trial.state_dims)
        total.loc[0 if 0 not in total.index else -1] = float(trial.initial_state_dim)
        columns[trial.trial_id] = total.sort_index()
    wide = pd.DataFrame(columns).sort_index()
    wide = wide.reindex(wide.index.union([0, last])).ffill()
    return wide[wide.index >= 0]


def _sizes_after(events: pd.DataFrame) -> pd.Series:
    """The size of each event's block after it: N, or for a stack the mean over its systems."""
    if "orders_after" not in events:
        return events.dim_after
    sizes = zip(events.dim_after, events.orders_after, strict=True)
    found = [block_sizes([n], None if orders is None else [orders])[0] for n, orders in sizes]
    return pd.Series(found, events.index, dtype=float)


def _named(trials: pd.DataFrame, label: str) -> str:
    if label == "full":
        return "full size"
    words = described(setting(trials, label))
    return f"{label}: {words}" if words else label


def _finish(above: Axes, late: Axes, below: Axes, factor: float) -> None:
    above.set_title("Validation", loc="left")
    late.set_title(f"The last {round(100 * (1 - LATE))} %", loc="left")
    below.set_title("State dimension", loc="left")
    below.set_ylabel("states a block")
    below.set_yscale("log", base=2)
    below.yaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:g}"))
    below.yaxis.set_minor_formatter(NullFormatter())
    for axes in (above, late, below):
        axes.set_xlabel("% of training")
        axes.set_xlim(100 * LATE if axes is late else 0, 100.5)
    if factor == 100:
        low, high = above.get_ylim()
        above.set_ylim(max(low, -2), min(high, 102))
