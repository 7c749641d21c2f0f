"""Writing a suite's report: read the records, compare, write every file, the page last."""

import io
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from harness.records.files import read_json, write_atomic
from harness.records.schemas import read_table
from harness.report.comparison import compare, to_table
from harness.report.figures import draw
from harness.report.page import write_page
from harness.report.tables import render


def write_report(directory: Path, suite_name: str, command: str) -> pd.DataFrame:
    """See `harness.report.write_report`."""
    trials, truncations, plan = read_records(directory, suite_name)
    comparison = compare(trials)
    figures = draw(comparison)
    page = write_page(suite_name, command, comparison, trials, truncations, plan, figures)

    sink = io.BytesIO()
    pq.write_table(to_table(comparison), sink, compression="zstd")
    write_atomic(directory / "comparison.parquet", sink.getvalue())
    for format in ("csv", "md", "tex"):
        write_atomic(directory / f"comparison.{format}", render(comparison, format).encode())
    for name, content in figures.items():
        write_atomic(directory / "figures" / name, content)
    write_atomic(directory / "index.html", page.encode())
    return comparison


def read_records(
    directory: Path, suite_name: str
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """The suite's trials, truncations and plan.

    Raises ValueError in one line if a file is missing or damaged.
    """
    try:
        trials = read_table(directory / "trials.parquet", "trials").to_pandas()
        truncations = read_table(directory / "truncations.parquet", "truncations").to_pandas()
        plan = read_json(directory / "plan.json")
    except FileNotFoundError as error:
        missing = Path(str(error.filename)).name
        raise ValueError(f"no record of suite {suite_name} here: {missing} is missing") from None
    return trials, truncations, plan
