"""Rank stability: how early the ranking of a block's modes becomes the final one.

Measured on `mode_shares`, which list the diagonal modes by their place among the parameters.
Between truncations a mode keeps its place, so shares at different steps can be compared; a
truncation changes the basis, and with it the meaning of a place. A *stretch* is a run of records of
one block without a truncation. Each record is compared with the last of its stretch. Sorted Hankel
singular values cannot show this: they may stay the same while modes trade places.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]

TOP = 4  # the top modes are a quarter of a stretch's modes

# The schema of rank_stability.parquet: one line per record of spectra in a stretch of at least
# two. Each trial is listed once, however many rows use it.
SCHEMA = pa.schema(
    [
        ("trial_id", pa.string()),
        ("block", pa.int32()),  # index of the block, from 0
        ("stretch", pa.int32()),  # of this block, counted from 0
        ("begin", pa.int64()),  # first step of the stretch
        ("end", pa.int64()),  # its last step, the reference of every record
        ("step", pa.int64()),  # optimizer steps done
        ("states", pa.int32()),  # N, modes of the block in this stretch
        ("top", pa.int32()),  # r, the size of the top: a quarter of N, at least 1
        ("spearman", pa.float64()),  # rank correlation of the shares with those at the end, -1 to 1
        ("overlap", pa.float64()),  # fraction of the final top r that is in the top r here
        ("outside", pa.float64()),  # fraction of the shares' sum outside the final top r
    ]
)
MEASURES = ("spearman", "overlap", "outside")


def measure(spectra: pa.Table) -> pd.DataFrame:
    """The columns of `SCHEMA` for every stretch in a suite's `spectra`.

    Records of the same step and size (before a truncation at an evaluation) count once. Measures
    are NaN if a share of the record, or of the stretch's last record, is not finite.
    """
    parts = [
        _stretch(trial_id, block, number, steps, shares)
        for trial_id, block, number, steps, shares in _stretches(spectra)
    ]
    if not parts:
        return SCHEMA.empty_table().to_pandas()
    return pd.DataFrame({name: np.concatenate([one[name] for one in parts]) for name in parts[0]})


def to_table(frame: pd.DataFrame) -> pa.Table:
    """The measurement as an arrow table of the documented schema; NaN becomes null."""
    return pa.Table.from_pandas(frame, schema=SCHEMA, preserve_index=False)


def rank_correlation(shares: Array, last: Array) -> Array:
    """Spearman's correlation of each line of `shares` (records, N) with `last` (N,).

    Equal shares get the mean of their ranks. NaN for a block of one mode, for shares that are all
    equal, or for a line that is not finite.
    """
    ranks, final = stats.rankdata(shares, axis=1), stats.rankdata(last)
    ranks, final = ranks - ranks.mean(axis=1, keepdims=True), final - final.mean()
    scale = np.sqrt((ranks**2).sum(axis=1) * (final**2).sum())
    known = (scale > 0) & np.isfinite(shares).all(axis=1) & np.isfinite(last).all()
    return np.where(known, ranks @ final / np.where(scale > 0, scale, 1.0), np.nan)


def top_overlap(shares: Array, last: Array, top: int) -> Array:
    """Fraction of the `top` largest of `last` (N,) that are so in a line of `shares` (records, N).

    By chance it is top / N on average. Of equal shares, the one in the earlier place counts as
    larger.
    """
    best = np.argsort(-last, kind="stable")[:top]
    each = np.argsort(-shares, axis=1, kind="stable")[:, :top]
    found = np.isin(each, best).sum(axis=1) / top
    known = np.isfinite(shares).all(axis=1) & np.isfinite(last).all()
    return np.where(known, found, np.nan)


def share_outside(shares: Array, last: Array, top: int) -> Array:
    """Fraction of each line's sum (records, N) in modes that are not the `top` largest of `last`.

    What a truncation to `top` would discard there if it knew the final ranking. Shares below zero
    are rounding and count as zero.
    """
    best = np.argsort(-last, kind="stable")[:top]
    positive = np.clip(shares, 0.0, None)
    total = positive.sum(axis=1)
    known = (total > 0) & np.isfinite(shares).all(axis=1) & np.isfinite(last).all()
    return np.where(known, 1 - positive[:, best].sum(axis=1) / np.where(known, total, 1.0), np.nan)


def by_row(stability: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """The measurement for every row that uses a trial, with `at`, the fraction of its steps.

    Adds `comparison, task, model, label, role, seed` and `at` = step / steps of the training.
    `trials` is the suite's table; trials that do not record their steps are left out.
    """
    names = ["comparison", "task", "model", "label", "role", "seed", "trial_id"]
    rows = trials.assign(comparison=trials.get("comparison"))[names]
    rows = rows.assign(steps=trials.get("spec.training.steps"))
    rows = rows[rows.steps.notna()]
    found = stability.merge(rows, on="trial_id")
    return found.assign(at=found.step / found.pop("steps").astype(float))


def over_blocks(found: pd.DataFrame) -> pd.DataFrame:
    """Means over blocks, one line per row, seed, stretch and step; from `by_row`.

    Blocks are truncated at the same steps, but the stretch of an unchanged block goes on. So only
    blocks whose stretches begin and end together are averaged.
    """
    keys = ["comparison", "task", "model", "label", "role", "seed", "begin", "end", "step", "at"]
    return found.groupby(keys, sort=False, dropna=False)[list(MEASURES)].mean().reset_index()


def _stretch(
    trial_id: str, block: int, number: int, steps: Array, shares: Array
) -> dict[str, NDArray[Any]]:
    count, states = shares.shape
    last, top = shares[-1], max(1, round(states / TOP))
    same = {"block": block, "stretch": number, "begin": steps[0], "end": steps[-1]}
    return {
        "trial_id": np.full(count, trial_id, dtype=object),
        **{name: np.full(count, value) for name, value in same.items()},
        "step": steps,
        "states": np.full(count, states),
        "top": np.full(count, top),
        "spearman": rank_correlation(shares, last),
        "overlap": top_overlap(shares, last, top),
        "outside": share_outside(shares, last, top),
    }


def _stretches(spectra: pa.Table) -> Iterator[tuple[str, int, int, Array, Array]]:
    """(trial, block, number, steps (records,), shares (records, N)) of stretches of 2+ records.

    A truncation or rollback that changes a block changes its number of modes, so that number tells
    where stretches end.
    """
    order = spectra.select(["trial_id", "block", "step"]).to_pandas()
    shares, step_of = _split(spectra["mode_shares"]), order.step.to_numpy()
    groups = order.groupby(["trial_id", "block"], sort=False).indices
    for trial_id, block in dict.fromkeys(zip(order.trial_id, order.block, strict=True)):
        lines = groups[trial_id, block]
        # Stable: the records before and after a truncation have the same step and stay in order.
        lines = lines[np.argsort(step_of[lines], kind="stable")]
        values = [shares[line] for line in lines]
        sizes = np.array([len(one) for one in values])
        steps = step_of[lines]
        ends = np.flatnonzero(np.diff(sizes)) + 1
        for number, places in enumerate(np.split(np.arange(len(steps)), ends)):
            kept = places[np.append(np.diff(steps[places]) > 0, True)]
            if len(kept) > 1 and sizes[kept[0]]:
                matrix = np.stack([values[i] for i in kept])
                yield str(trial_id), int(block), number, steps[kept], matrix


def _split(lists: pa.ChunkedArray) -> list[Array]:
    """The lists of a column as arrays."""
    found: list[Array] = []
    for chunk in lists.chunks:
        flat = chunk.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
        lengths = chunk.value_lengths().to_numpy(zero_copy_only=False)
        found += np.split(flat, np.cumsum(lengths)[:-1]) if len(lengths) else []
    return found
