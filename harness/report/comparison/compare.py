"""The comparison table: one row per (comparison, task, model, label).

Each has its intervals, differences and costs.
"""

import numpy as np
import pandas as pd
import pyarrow as pa

from harness.report.comparison import costs
from harness.report.comparison.rows import Row, collect, reference_full, reference_small
from harness.report.comparison.variants import variants
from harness.report.statistics import intervals as statistics
from harness.report.statistics.intervals import Interval

NO_VERDICT = "—"

# The schema of comparison.parquet and the order of columns in csv. Metrics and their differences
# are in the metric's own unit (accuracy between 0 and 1); a positive difference is an improvement.
SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("model", pa.string()),
        ("label", pa.string()),
        ("arm", pa.string()),  # its kind
        ("matches", pa.string()),  # label of the row whose size it takes
        ("comparison", pa.string()),  # its key in the suite; null in old records
        ("protocol", pa.string()),
        ("metric", pa.string()),
        ("higher_is_better", pa.bool_()),
        ("seeds", pa.int64()),  # number of seeds in the mean
        ("seed_list", pa.list_(pa.int64())),
        ("diverged", pa.int64()),
        ("failed", pa.int64()),
        ("damaged", pa.int64()),  # seeds whose record cannot be read
        ("state_dim_mean", pa.float64()),  # states per block: mean over blocks and seeds
        ("state_dim_mean_sd", pa.float64()),  # over seeds
        ("state_dim_mean_min", pa.float64()),
        ("state_dim_mean_max", pa.float64()),
        ("state_dim_total", pa.float64()),  # states of all blocks: mean over seeds
        ("metric_mean", pa.float64()),
        ("metric_low", pa.float64()),  # 95 % Student t over all seeds
        ("metric_high", pa.float64()),
        ("metric_bootstrap_low", pa.float64()),  # nominal 95 % percentile bootstrap
        ("metric_bootstrap_high", pa.float64()),
        ("bootstrap_coverage", pa.float64()),  # its actual coverage
        ("metric_top3", pa.float64()),  # the published aggregate: best three seeds by test
        *[
            (f"difference_to_{other}{part}", kind)
            for other in ("full", "small")
            for part, kind in [
                ("", pa.float64()),
                ("_low", pa.float64()),  # 95 % paired t, by seed
                ("_high", pa.float64()),
                ("_seeds", pa.int64()),
            ]
        ],
        ("small_label", pa.string()),  # the small row it was measured against
        ("verdict", pa.string()),  # against that row
        ("train_flops_mean", pa.float64()),  # of the trial alone
        (
            "method_flops_mean",
            pa.float64(),
        ),  # total: with compression and what precedes it
        ("relative_flops", pa.float64()),  # ratio of method_flops to full's, same seeds
        ("seconds_mean", pa.float64()),  # total; exclusive trials only
        ("seconds_median", pa.float64()),  # over the same trials
        # Ratio of total seconds to full's: median over seeds of the ratio within a seed, both timed
        # alone on the same kind of machine; low and high are the smallest and largest ratio.
        ("relative_seconds", pa.float64()),
        ("relative_seconds_low", pa.float64()),
        ("relative_seconds_high", pa.float64()),
        ("timed_seeds", pa.int64()),
        ("peak_memory_bytes", pa.float64()),  # largest over seeds; on a CPU of the whole process
        ("state_bytes", pa.float64()),  # per sequence in recurrent mode: mean over seeds
        ("step_latency_seconds", pa.float64()),  # per step in recurrent mode; exclusive trials only
        ("devices", pa.string()),
        ("versions", pa.string()),
        ("commits", pa.string()),
        ("plugins", pa.string()),  # kind, name and SHA-256 of each
        ("mixed", pa.string()),  # which of device, version, commit, plugin differ inside the row
        ("variant", pa.string()),  # what tells it from other rows of its arm, as JSON; or null
    ]
)


def compare(trials: pd.DataFrame, bootstrap_seed: int = 0) -> pd.DataFrame:
    """One row per (comparison, task, model, label), in reading order, with the columns of `SCHEMA`.

    `trials` is the suite's table of trials with `label`, `role`, `matches` and `comparison` (which
    old tables lack); it has a line for each row that a trial is in. Each row's bootstrap has a
    fresh generator, so its bounds do not depend on the other rows.

    Raises a one-line ValueError as `rows.collect` does (mixed data in a row, missing columns).
    """
    rows = collect(trials)
    records = [
        {**_record(row, rows, bootstrap_seed), "variant": variant}
        for row, variant in zip(rows, variants(rows), strict=True)
    ]
    return pd.DataFrame(records, columns=SCHEMA.names)


def to_table(comparison: pd.DataFrame) -> pa.Table:
    """The comparison as an arrow table of the documented schema; NaN becomes null."""
    return pa.Table.from_pandas(comparison, schema=SCHEMA, preserve_index=False)


def _record(row: Row, rows: list[Row], bootstrap_seed: int) -> dict[str, object]:
    full, small = reference_full(row, rows), reference_small(row, rows)
    to_full = difference(row, full if full is not row else None)
    to_small = difference(row, small)
    return {
        **_names(row),
        **_sizes(row),
        **_metric(row, bootstrap_seed),
        **_spread("difference_to_full", to_full),
        **_spread("difference_to_small", to_small),
        "small_label": small.label if small else None,
        "verdict": _verdict(to_small),
        **costs.relative_to(row, full),
        **costs.machine(row),
    }


def _names(row: Row) -> dict[str, object]:
    return {
        "task": row.task,
        "model": row.model,
        "label": row.label,
        "arm": row.arm,
        "matches": row.matches,
        "comparison": row.comparison,
        "protocol": row.constant("protocol"),
        "metric": row.constant("metric"),
        "higher_is_better": row.higher_is_better,
        "seeds": len(row.finished),
        "seed_list": [int(seed) for seed in row.finished.index],
        "diverged": row.diverged,
        "failed": row.failed,
        "damaged": row.damaged,
    }


def _sizes(row: Row) -> dict[str, float]:
    dims = row.finished.state_dim_mean.astype(float)
    return {
        "state_dim_mean": dims.mean(),
        "state_dim_mean_sd": dims.std(ddof=1),
        "state_dim_mean_min": dims.min(),
        "state_dim_mean_max": dims.max(),
        "state_dim_total": row.finished.state_dim_total.astype(float).mean(),
    }


def _metric(row: Row, bootstrap_seed: int) -> dict[str, float]:
    values = row.finished.test_metric.to_numpy(dtype=float)
    student = statistics.mean_interval(values)
    bootstrap = statistics.bootstrap_interval(values, np.random.default_rng(bootstrap_seed))
    claims = row.diverged == 0
    nan = float("nan")
    return {
        "metric_mean": student.mean,
        "metric_low": student.low if claims else nan,
        "metric_high": student.high if claims else nan,
        "metric_bootstrap_low": bootstrap.low if claims else nan,
        "metric_bootstrap_high": bootstrap.high if claims else nan,
        "bootstrap_coverage": statistics.known_coverage(len(values)) if claims else nan,
        "metric_top3": statistics.top_k_mean(values, 3, row.higher_is_better),
    }


def difference(row: Row, other: Row | None) -> Interval | None:
    """Test metric of `row` minus `other`, paired over common seeds; positive is better.

    It has no interval if a seed diverged on either side, and is None without another row.
    """
    if other is None:
        return None
    seeds = row.finished.index.intersection(other.finished.index)
    found = statistics.paired_difference(
        row.finished.test_metric[seeds].to_numpy(dtype=float),
        other.finished.test_metric[seeds].to_numpy(dtype=float),
        higher_is_better=row.higher_is_better,
    )
    if row.diverged or other.diverged:
        return found._replace(low=float("nan"), high=float("nan"))
    return found


def _spread(name: str, found: Interval | None) -> dict[str, float]:
    nan = float("nan")
    mean, low, high, seeds = found or (nan, nan, nan, 0)
    return {name: mean, f"{name}_low": low, f"{name}_high": high, f"{name}_seeds": seeds}


def _verdict(to_small: Interval | None) -> str:
    """Against small at equal size; a dash without a small row or an interval.

    An interval of no width does not decide: the metric is too coarse for so few seeds.
    """
    if to_small is None or not to_small.high - to_small.low > statistics.NO_WIDTH:
        return NO_VERDICT
    if to_small.low > 0:
        return "better"
    return "worse" if to_small.high < 0 else "undecided"
