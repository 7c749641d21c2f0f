"""How the numbers of a comparison are shown: units, digits, signs.

Accuracy is stored between 0 and 1 and shown in percent; all else is shown in its own unit.
"""

import math
from typing import NamedTuple

import pandas as pd

from harness.arms import of_kind
from harness.report.comparison.variants import fields
from harness.tasks.metrics import METRICS

DASH = "—"
CROWDED = 12  # a comparison with more rows is summarised instead of told row by row
UNSTEADY = 2.0  # times relative to full are marked if they spread by more than this factor


class Shown(NamedTuple):
    """How values of one metric are shown: its name, unit, factor and decimals."""

    name: str
    unit: str
    factor: float
    decimals: int


def shown_metric(metric: str) -> Shown:
    """How `metric` is shown; a metric unknown to this version is shown as it is."""
    known = METRICS.get(metric)
    if known is None:
        return Shown(str(metric).replace("_", " "), "", 1.0, 3)
    return Shown(known.label, known.unit, known.factor, known.decimals)


def sections(comparison: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows that may be compared with each other, with the name of their section.

    The name is that of the task, plus that of the comparison if it differs (`digits, long`), plus
    model and protocol if there are several.
    """
    keys = ["comparison", "task", "model", "protocol"]
    found = []
    for _, rows in comparison.groupby(keys, sort=False, dropna=False):
        first = rows.iloc[0]
        parts = [place(first.task, first.comparison)]
        parts += [str(first[key]) for key in keys[2:] if comparison[key].nunique() > 1]
        found.append((", ".join(parts), rows))
    return found


def place(task: str, comparison: object) -> str:
    """`digits`, or `digits, long` for a comparison that is not named after its task."""
    named = isinstance(comparison, str) and comparison not in ("", task)
    return f"{task}, {comparison}" if named else task


def heading(name: str, row: pd.Series) -> str:
    """What the numbers of a section are: `digits: accuracy in %, higher is better`."""
    shown = shown_metric(row.metric)
    unit = f" in {shown.unit}" if shown.unit else ""
    better = "higher" if row.higher_is_better else "lower"
    return f"{name}: {shown.name}{unit}, {better} is better"


def arm_name(arm: str) -> str:
    """The name of an arm for people."""
    return of_kind(arm).title or arm.replace("_", " ")


def variant(text: object) -> list[str]:
    """The settings of a variant, `gramians task`; those without a value are left out."""
    return [f"{name} {value}" for name, value in fields(text).items() if value is not None]


def are_baseline(arms: pd.Series, baseline: str) -> pd.Series:
    """True for each arm that serves as this baseline, `full` or `small`."""
    return arms.map(lambda arm: of_kind(str(arm)).baseline == baseline).astype(bool)


def are_subject(arms: pd.Series) -> pd.Series:
    """True for each arm that the sentences of the report are about."""
    return arms.map(lambda arm: of_kind(str(arm)).is_subject).astype(bool)


def value(number: float, metric: str) -> str:
    """A metric's value without its unit; a dash where it is undefined."""
    shown = shown_metric(metric)
    return plain(number * shown.factor, shown.decimals)


def value_with_interval(row: pd.Series) -> str:
    """`85.3 ± 2.1`: the mean, with the half-width of its interval if it has one."""
    return plus_minus(row.metric_mean, row.metric_high, row.metric, signed=False)


def difference(row: pd.Series, to: str) -> str:
    """`−1.2 ± 0.8`: the difference to `to` ("full" or "small"); positive means better."""
    mean, high = row[f"difference_to_{to}"], row[f"difference_to_{to}_high"]
    return plus_minus(mean, high, row.metric, signed=True)


def with_unit(number: float, metric: str, points: bool = False) -> str:
    """A value (or, with `points`, the size of a difference) as written in a sentence."""
    shown = shown_metric(metric)
    text = plain(number * shown.factor, shown.decimals)
    if shown.unit == "%":
        return f"{text} points of accuracy" if points else f"{text} %"
    return f"{text} {shown.name}"


def state_dim(row: pd.Series) -> str:
    """Mean states per block, with the spread over seeds if seeds differ."""
    if not math.isfinite(row.state_dim_mean):
        return DASH
    if row.state_dim_mean_max > row.state_dim_mean_min:
        return f"{row.state_dim_mean:.1f} ± {row.state_dim_mean_sd:.1f}"
    return f"{row.state_dim_mean:.1f}".removesuffix(".0")


def seeds(row: pd.Series) -> str:
    """How many seeds are in the mean, and how many diverged, failed or have a damaged record."""
    counts = [(row.diverged, "div."), (row.failed, "fail."), (row.damaged, "damaged")]
    left_out = [f"{count} {what}" for count, what in counts if count]
    return f"{row.seeds} ({', '.join(left_out)})" if left_out else str(row.seeds)


def label(row: pd.Series) -> str:
    """The row's label, starred if its trials mix commits, versions or devices."""
    return f"{row.label} *" if row.mixed else str(row.label)


def factor(number: float) -> str:
    """A cost relative to full, `0.41×`; a dash if it is unknown."""
    return f"{number:.2f}×" if math.isfinite(number) else DASH


def time(row: pd.Series) -> str:
    """Seconds relative to full, with a dagger if the seeds disagree by more than `UNSTEADY`."""
    return factor(row.relative_seconds) + ("†" if unsteady(row) else "")


def time_range(row: pd.Series) -> str:
    """The range of the ratios that `time` is the median of; a dash for a single one."""
    low, high = row.relative_seconds_low, row.relative_seconds_high
    return f"{low:.2f}–{high:.2f}×" if high > low else DASH


def unsteady(row: pd.Series) -> bool:
    """Whether the ratios of seconds spread by more than `UNSTEADY`: something disturbed them."""
    return bool(row.relative_seconds_high > UNSTEADY * row.relative_seconds_low)


def flops(number: float) -> str:
    """FLOPs with three digits, `1.23e+12`."""
    return f"{number:.3g}" if math.isfinite(number) else DASH


def seconds(number: float) -> str:
    """Seconds with three digits; a dash if no trial was timed alone."""
    return f"{number:.3g}" if math.isfinite(number) else DASH


def count(number: float) -> str:
    """A whole number; a dash if it is unknown."""
    return DASH if pd.isna(number) else f"{int(number)}"


def whole(number: float) -> str:
    """A mean of whole numbers without decimals; a dash if it is unknown."""
    return f"{number:.0f}" if math.isfinite(number) else DASH


def megabytes(number: float) -> str:
    """Bytes in MB (10^6 bytes)."""
    return f"{number / 1e6:.0f}" if math.isfinite(number) else DASH


def plain(number: float, decimals: int, signed: bool = False) -> str:
    """A number with a true minus sign and without a signed zero."""
    if not math.isfinite(number):
        return DASH
    number = round(number, decimals) + 0.0
    return f"{number:{'+' if signed and number else ''}.{decimals}f}".replace("-", "−")


def plus_minus(mean: float, high: float, metric: str, signed: bool) -> str:
    """A mean in the metric's shown unit, with the half-width of its interval if it has one."""
    shown = shown_metric(metric)
    text = plain(mean * shown.factor, shown.decimals, signed)
    half = (high - mean) * shown.factor
    return f"{text} ± {plain(half, shown.decimals)}" if math.isfinite(half) else text


def is_crowded(rows: pd.DataFrame) -> bool:
    """Whether a comparison has too many rows for a sentence or a label each."""
    return len(rows) > CROWDED
