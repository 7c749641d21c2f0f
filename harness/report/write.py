"""Write a suite's report: read the records, compare, write every file, the page last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from harness.records.suite_records import PAGE, SuiteRecords
from harness.report.claims.evidence import Evidence
from harness.report.claims.judge import judge
from harness.report.claims.read import all_claims, suites_of
from harness.report.claims.section import claims_html
from harness.report.comparison.compare import compare, to_table
from harness.report.figures import draw
from harness.report.page import write_page
from harness.report.ranks import rank_figure, rank_stability
from harness.report.tables import render


def write_report(records: SuiteRecords, command: str) -> pd.DataFrame:
    """See `harness.report.write_report`."""
    trials, truncations, plan = read_records(records)
    name, comparison = records.name, compare(trials)
    figures = draw(comparison)
    stability = _stability(records, trials, figures)
    claims = _claims(records, str(plan.get("of", name)))
    page = write_page(name, command, comparison, trials, truncations, plan, figures, claims)

    records.write_table("comparison", to_table(comparison))
    if stability is not None:
        records.write_table("rank_stability", stability)
    for format in ("csv", "md", "tex"):
        records.write(f"comparison.{format}", render(comparison, format).encode())
    for figure, content in figures.items():
        records.write(f"figures/{figure}", content)
    records.write(PAGE, page.encode())
    return comparison


def _stability(
    records: SuiteRecords, trials: pd.DataFrame, figures: dict[str, bytes]
) -> pa.Table | None:
    """Rank stability, with its figure added to `figures`; None if spectra are not recorded."""
    if not records.has_table("spectra"):
        return None
    spectra = records.table("spectra")
    measured = rank_stability.measure(spectra)
    figures.update(rank_figure.draw(measured, trials, spectra))
    return rank_stability.to_table(measured)


def _claims(records: SuiteRecords, suite_name: str) -> str:
    """The claims that this suite decides, as HTML; empty if there are none."""
    claims = all_claims()
    if not any(test.suite == suite_name for claim in claims.claims for test in claim.tests):
        return ""
    suites = suites_of(claims, suite_name)
    evidence = {name: Evidence(suite, records) for name, suite in suites.items()}
    return claims_html(judge(claims, evidence, suite_name), claims)


def read_records(records: SuiteRecords) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """The suite's trials, truncations and plan.

    Raises a one-line ValueError if a file is missing or damaged.
    """
    try:
        trials = records.table("trials").to_pandas()
        truncations = records.table("truncations").to_pandas()
        plan = records.plan()
    except FileNotFoundError as error:
        missing = Path(str(error.filename)).name
        raise ValueError(f"no record of suite {records.name} here: {missing} is missing") from None
    return trials, truncations, plan
