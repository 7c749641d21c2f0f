"""What a row cost (FLOPs, seconds, memory; relative to full) and on which machines it ran."""

import json

import pandas as pd

from harness.report.comparison.rows import Row
from harness.report.statistics.intervals import Spread, paired_ratio

MARKS = {"device": "device", "version": "torch_version", "commit": "git_commit"}


def sources(plugins: object) -> str:
    """`layer mine 0123456789ab`: the plug-ins of a record, with the SHA-256 of their code."""
    found = json.loads(str(plugins))
    return ", ".join(f"{one['what']} {one['name']} {one['sha256'][:12]}" for one in found)


def relative_to(row: Row, full: Row | None) -> dict[str, float]:
    """Mean costs of the row, and relative to `full` over the seeds that both have finished.

    FLOPs and seconds are totals: they include compression and, for a model compressed after
    training, the full training that came first. Seconds come only from trials that had their cores
    or GPU to themselves. A ratio also needs the same device and threads on both sides. It is the
    median over seeds, since other load on the machine may slow down any single trial.
    """
    trials = row.finished
    timed = trials[_timed(trials, full)]
    seconds = timed.seconds_method.astype(float)
    ratio = _paired_seconds(on_one_machine(timed, full), full)
    return {
        "train_flops_mean": trials.train_flops.astype(float).mean(),
        "method_flops_mean": trials.flops_method.astype(float).mean(),
        "relative_flops": relative_flops(trials, full),
        "seconds_mean": seconds.mean(),
        "seconds_median": seconds.median(),
        "relative_seconds": ratio.median,
        "relative_seconds_low": ratio.low,
        "relative_seconds_high": ratio.high,
        "timed_seeds": len(timed),
        "peak_memory_bytes": trials.peak_memory_bytes.astype(float).max(),
        "state_bytes": trials.state_bytes.astype(float).mean(),
        "step_latency_seconds": timed.step_latency_seconds.astype(float).mean(),
    }


def machine(row: Row) -> dict[str, str]:
    """Devices, versions, commits and plug-ins of the row, and which of them its trials mix."""
    found = {
        mark: sorted(set(row.every[column].dropna().astype(str))) for mark, column in MARKS.items()
    }
    found["plugin"] = sorted(set(row.every["plugins"].dropna().map(sources)))
    listed = {f"{mark}s": ", ".join(values) for mark, values in found.items()}
    return {**listed, "mixed": ", ".join(mark for mark, values in found.items() if len(values) > 1)}


def relative_flops(trials: pd.DataFrame, full: Row | None) -> float:
    """Ratio of the mean total FLOPs to those of `full` over common seeds; NaN if there are none."""
    if full is None:
        return float("nan")
    seeds = trials.index.intersection(full.finished.index)
    ours = trials.flops_method[seeds].astype(float).mean()
    theirs = full.finished.flops_method[seeds].astype(float).mean()
    return float(ours / theirs) if theirs > 0 else float("nan")


def _paired_seconds(timed: pd.DataFrame, full: Row | None) -> Spread:
    """Total seconds relative to full's of the same seed, where both are known."""
    if full is None:
        return paired_ratio([], [])
    ours = timed.seconds_method.astype(float)
    theirs = full.finished.seconds_method.astype(float).reindex(ours.index)
    known = ours.notna() & (theirs > 0)
    return paired_ratio(ours[known], theirs[known])


def _timed(trials: pd.DataFrame, full: Row | None) -> pd.Series:
    """True where total seconds were timed alone: the trial's own, and those it builds on."""
    exclusive = trials.exclusive.fillna(False).astype(bool)
    builds_on_full = trials.seconds_method > trials.seconds_total
    if full is None or not builds_on_full.any():
        return exclusive
    clean = full.finished.exclusive.reindex(trials.index).fillna(False).astype(bool)
    return exclusive & (clean | ~builds_on_full)


def on_one_machine(timed: pd.DataFrame, full: Row | None) -> pd.DataFrame:
    """The timed trials whose full-size partner was timed too, on the same device and threads."""
    if full is None:
        return timed.iloc[:0]
    partner = full.finished[full.finished.exclusive.fillna(False).astype(bool)]
    timed = timed[timed.index.isin(partner.index)]
    other = partner.loc[timed.index]
    return timed[(timed.device == other.device) & (timed.threads == other.threads)]
