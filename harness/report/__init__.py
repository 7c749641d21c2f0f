"""The report: from a suite's tables to the comparison, its tables, its figures and its page.

`write_report` is the way in; `comparison.compare` and `tables.render` are the same numbers for a
terminal. Nothing here is imported before it is needed: pandas and matplotlib take seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from harness.records.suite_records import SuiteRecords


def write_report(records: SuiteRecords, command: str) -> pd.DataFrame:
    """Rebuild every report file of a suite from its collected tables; return the comparison.

    Read are the tables `trials`, `truncations` and, where there is one, `spectra`, and the plan;
    written are `comparison.{parquet,csv,md,tex}`, `rank_stability.parquet` (where there are
    spectra), `figures/*.{png,svg}` and `index.html`, each whole or not at all, the page last.
    `command` is shown as the one that reproduces the comparison.

    Raises ValueError in one line if there is no record of the suite, it is damaged, or a row may
    not be compared (`comparison.compare`).
    """
    from harness.report.write import write_report as write

    return write(records, command)
