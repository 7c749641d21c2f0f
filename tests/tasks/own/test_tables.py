"""`arrays`: tables of one row a step, .csv and .parquet."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from .conftest import sequences
from .test_arrays import everything


@pytest.fixture
def table():
    """60 sequences of 12 rows: time, two channels, their class, in words."""
    x, y = sequences()
    return pd.DataFrame(
        {
            "run": np.repeat(np.arange(60) + 1000, 12),
            "u": x[..., 0].ravel(),
            "v": x[..., 1].ravel(),
            "state": np.repeat(np.array(["low", "mid", "high"])[y], 12),
            "fold": np.repeat(np.where(np.arange(60) < 30, "train", "test"), 12),
        }
    )


COLUMNS = {"x_columns": ["u", "v"], "y_columns": ["state"], "sequence_column": "run"}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_is_the_same_data_as_an_npz(table, made, kind):
    x, y = sequences()
    np.savez("mine.npz", x=x.astype(np.float64), y=np.array(["low", "mid", "high"])[y])
    if kind == "csv":
        table.to_csv("mine.csv", index=False)
    else:
        table.astype({"state": "category"}).to_parquet("mine.parquet")
    one, two = made(path=f"mine.{kind}", **COLUMNS), made(path="mine.npz")
    assert one.info == two.info
    for split in one.sizes:
        for a, b in zip(everything(one, split), everything(two, split), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_given_splits_and_sequences_of_their_own_length(table, made):
    table = table.drop(index=range(5, 12)).reset_index(drop=True)  # the first has 5 rows left
    table.to_csv("mine.csv", index=False)
    task = made(path="mine.csv", **COLUMNS, split_column="fold", normalise_x=False)
    assert task.sizes == {"train": 24, "validation": 6, "test": 30}
    assert task.summary()["notes"]["padded"] == 1
    np.testing.assert_allclose(
        everything(task, "test")[0][0].numpy(), table[["u", "v"]][-360:-348], rtol=1e-6
    )


def test_one_long_recording_in_windows(made):
    random = np.random.default_rng(0)
    pd.DataFrame({"V1": random.normal(size=1000), "V2": random.normal(size=1000)}).to_csv(
        "long.csv", index=False
    )
    task = made(
        path="long.csv", predict="value", per="step", window=50, order="listed",
        x_columns=["V1"], y_columns=["V2"],
    )  # fmt: skip
    assert task.sizes == {"train": 16, "validation": 2, "test": 2}
    assert (task.info.length, task.info.inputs, task.info.outputs) == (50, 1, 1)


def test_a_folder_of_recordings_of_any_length(table, here, made):
    (here / "runs").mkdir()
    for number, (_, rows) in enumerate(table.groupby("run")):
        rows.head(12 - number % 3).to_csv(here / "runs" / f"{number:02}.csv", index=False)
    fields = {key: value for key, value in COLUMNS.items() if key != "sequence_column"}
    task = made(path="runs", **fields)
    assert sum(task.sizes.values()) == 60
    assert task.info.length == 12
    assert task.summary()["notes"]["padded"] == 40


@pytest.mark.parametrize(
    ("change", "fields", "says"),
    [
        (lambda t: t, {"x_columns": ["w"]}, "mine.csv has no column 'w'; it has run, u, v, state"),
        (lambda t: t, {"x_columns": ["state"]}, "column 'state' holds string, not numbers"),
        (lambda t: t, {"y_columns": None}, "a table needs x_columns and y_columns"),
        (lambda t: t, {"y_columns": ["state", "u"]}, "a class is one column, not 2"),
        (lambda t: t.replace({"v": {t.v[3]: np.nan}}), {}, "column 'v' are missing, the first in"),
        (lambda t: t.head(0), {}, "has no rows"),
        (lambda t: t.assign(state="low"), {}, "y holds one class only, 'low'"),
        (lambda t: pd.concat([t, t.head(3)]), {}, "the rows of sequence 1000 do not follow"),
        (lambda t: t.assign(state=["a", "b"] * 360), {}, "column state changes within a sequence"),
        (lambda t: t.assign(fold="dev"), {"split_column": "fold"}, "split holds 'dev', not train"),
        (lambda t: t, {"window": 13}, "no sequence has the 13 rows of a window"),
        (lambda t: t.drop(index=3), {"per": "step"}, "different lengths have no target at every"),
    ],
)
def test_tables_that_are_refused(table, made, change, fields, says):
    change(table).to_csv("mine.csv", index=False)
    with pytest.raises(ValueError, match=says):
        made(path="mine.csv", **{**COLUMNS, **fields})


@pytest.mark.parametrize("name", ["mine.csv", "mine.parquet"])
def test_files_that_are_no_tables(here, made, name):
    (here / name).write_bytes(b"\x93NUMPY\x00\xff\xfe,\n\x00,,,")
    with pytest.raises(ValueError, match=r"mine.(csv|parquet)"):
        made(path=name, **COLUMNS)
