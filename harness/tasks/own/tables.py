"""Sequences from tables with one row per step: .parquet and .csv."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.tasks.own.npz import Part
from harness.tasks.specs.own import ArraysSpec
from harness.tools.inputs import cut, shown

if TYPE_CHECKING:
    import pyarrow as pa


def read_table(path: Path, where: str, spec: ArraysSpec) -> Part:
    """The sequences of a table, padded to the longest or cut into windows.

    Raises ValueError, one line that begins with `where`.
    """
    if spec.x_columns is None or (spec.y_columns is None) != (spec.predict == "next_step"):
        needs = "x_columns" if spec.predict == "next_step" else "x_columns and y_columns"
        raise ValueError(
            f"{where}: a table needs {needs}, and no others, to predict {spec.predict}"
        )
    table = _read(path, where)
    x = np.stack([_numbers(table, where, name) for name in spec.x_columns], axis=-1)
    rows, lengths = _sequences(table, where, spec)
    labels = spec.predict == "class"
    y = None
    if spec.y_columns is not None:
        if labels and len(spec.y_columns) > 1:
            raise ValueError(f"{where}: a class is one column, not {len(spec.y_columns)}")
        columns = [(_labels if labels else _numbers)(table, where, name) for name in spec.y_columns]
        y = columns[0] if labels else np.stack(columns, axis=-1)
        named = ", ".join(spec.y_columns)
        y = y[rows] if spec.per == "step" else _constant(y, rows, lengths, where, named)
    split = None
    if spec.split_column is not None:
        words = _labels(table, where, spec.split_column)
        split = _constant(words, rows, lengths, where, spec.split_column)
    return Part(
        where,
        (*rows.shape, x.shape[1]),
        x.dtype,
        lambda: x[rows],
        y,
        lengths,
        split,
    )


def _read(path: Path, where: str) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv, parquet

    try:
        if path.suffix.lower() == ".csv":
            table = csv.read_csv(path)
        else:
            table = parquet.ParquetFile(path).read()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        kind = path.suffix.removeprefix(".")
        raise ValueError(f"{where} is no readable {kind} file: {cut(str(error))}") from None
    if table.num_rows == 0:
        raise ValueError(f"{where} has no rows")
    return table


def _column(table: pa.Table, where: str, name: str) -> np.ndarray:
    """A column, which must have no missing values."""
    import pyarrow as pa

    found = table.column_names.count(name)
    if found != 1:
        listed = cut(", ".join(table.column_names))
        state = "no column" if found == 0 else f"{found} columns"
        raise ValueError(f"{where} has {state} {shown(name)}; it has {listed}")
    column = table.column(name)
    if column.null_count:
        import pyarrow.compute as pc

        row = pc.index(pc.is_null(column), True).as_py()
        raise ValueError(
            f"{where}: {column.null_count} values of column {shown(name)} are missing, the first "
            f"in row {row + 1}"
        )
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _numbers(table: pa.Table, where: str, name: str) -> np.ndarray:
    values = _column(table, where, name)
    if values.dtype.kind not in "biuf":
        kind = table.schema.field(name).type
        raise ValueError(f"{where}: column {shown(name)} holds {kind}, not numbers")
    return values


def _labels(table: pa.Table, where: str, name: str) -> np.ndarray:
    values = _column(table, where, name)
    if values.dtype == object and all(isinstance(value, str) for value in values):
        return values.astype(np.str_)
    return values


def _sequences(table: pa.Table, where: str, spec: ArraysSpec) -> tuple[np.ndarray, np.ndarray]:
    """(n, longest) rows of the table, of each sequence or window, the last one repeated as padding;
    and (n,) how many of them count."""
    total = table.num_rows
    if spec.sequence_column is None:
        starts = np.zeros(1, dtype=np.int64)
    else:
        names = _labels(table, where, spec.sequence_column)
        changes = np.flatnonzero(names[1:] != names[:-1]) + 1
        starts = np.concatenate([[0], changes]).astype(np.int64)
        first = names[starts]
        if len(np.unique(first)) < len(first):
            values, counts = np.unique(first, return_counts=True)
            torn = shown(values[counts > 1][0].item(), 60)
            raise ValueError(
                f"{where}: the rows of sequence {torn} do not follow each other: sort by "
                f"{shown(spec.sequence_column)}"
            )
    ends = np.append(starts[1:], total)
    if spec.window is not None:
        width = spec.window
        pairs = zip(starts, ends, strict=True)
        starts = np.concatenate([np.arange(a, b - width + 1, width) for a, b in pairs])
        if not len(starts):
            raise ValueError(f"{where}: no sequence has the {width} rows of a window")
        ends = starts + width
    lengths = ends - starts
    steps = np.arange(lengths.max())
    return starts[:, None] + np.minimum(steps, lengths[:, None] - 1), lengths


def _constant(
    values: np.ndarray, rows: np.ndarray, lengths: np.ndarray, where: str, name: str
) -> np.ndarray:
    """One value for each sequence; ValueError if it changes within a sequence."""
    first = values[rows[:, 0]]
    differs = values[rows] != first[:, None]
    if differs.any():
        row = int(rows[np.argwhere(differs)[0][0], np.argwhere(differs)[0][1]])
        raise ValueError(
            f"{where}: column {cut(name)} changes within a sequence, in row {row + 1}; "
            'per="step" takes a value for every step'
        )
    return first
