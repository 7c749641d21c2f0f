"""The report: from a suite's tables to the comparison, its tables, its figures and its page.

`write_report` is the entry point; `comparison.compare` and `tables.render` give a terminal the same
numbers. Imports are deferred until needed: pandas and matplotlib take seconds to load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from harness.records.suite_records import SuiteRecords


def write_report(records: SuiteRecords, command: str) -> pd.DataFrame:
    """Rebuild every report file of a suite from its collected tables; return the comparison.

    Reads the plan and the tables `trials`, `truncations` and, if there is one, `spectra`. Writes
    `comparison.{parquet,csv,md,tex}`, `rank_stability.parquet` (if there are spectra),
    `figures/*.{png,svg}` and `index.html`, each atomically, the page last. The page shows `command`
    as the one that reproduces the comparison.

    Raises a one-line ValueError if the suite has no record, the record is damaged, or a row cannot
    be compared (`comparison.compare`).
    """
    from harness.report.write import write_report as write

    return write(records, command)
