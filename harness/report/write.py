"""Writing a suite's report: read the records, compare, write every file, the page last."""

import io
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from harness.records.files import read_json, write_atomic
from harness.records.schemas import read_table
from harness.report.claims.evidence import Evidence
from harness.report.claims.judge import judge
from harness.report.claims.read import read_claims, suites_of
from harness.report.claims.section import claims_html
from harness.report.comparison.compare import compare, to_table
from harness.report.figures import draw
from harness.report.page import write_page
from harness.report.ranks import rank_figure, rank_stability
from harness.report.tables import render


def write_report(directory: Path, suite_name: str, command: str) -> pd.DataFrame:
    """See `harness.report.write_report`."""
    trials, truncations, plan = read_records(directory, suite_name)
    comparison = compare(trials)
    figures = draw(comparison)
    stability = _stability(directory, trials, figures)
    claims = _claims(directory, str(plan.get("of", suite_name)))
    page = write_page(suite_name, command, comparison, trials, truncations, plan, figures, claims)

    _write_parquet(directory / "comparison.parquet", to_table(comparison))
    if stability is not None:
        _write_parquet(directory / "rank_stability.parquet", stability)
    for format in ("csv", "md", "tex"):
        write_atomic(directory / f"comparison.{format}", render(comparison, format).encode())
    for name, content in figures.items():
        write_atomic(directory / "figures" / name, content)
    write_atomic(directory / "index.html", page.encode())
    return comparison


def _stability(directory: Path, trials: pd.DataFrame, figures: dict[str, bytes]) -> pa.Table | None:
    """Rank stability, and its figure among `figures`; None where spectra are not recorded."""
    path = directory / "spectra.parquet"
    if not path.is_file():
        return None
    spectra = read_table(path, "spectra")
    measured = rank_stability.measure(spectra)
    figures.update(rank_figure.draw(measured, trials, spectra))
    return rank_stability.to_table(measured)


def _claims(directory: Path, suite_name: str) -> str:
    """The published claims that this suite decides, as HTML; empty where there are none."""
    claims = read_claims()
    if not any(test.suite == suite_name for claim in claims.claims for test in claim.tests):
        return ""
    suites = suites_of(claims, suite_name)
    evidence = {name: Evidence(suite, directory) for name, suite in suites.items()}
    return claims_html(judge(claims, evidence, suite_name), claims)


def _write_parquet(path: Path, table: pa.Table) -> None:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    write_atomic(path, sink.getvalue())


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
