"""`harness claims`: the paper's claims and ours, tested on the trials in a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.naming import open_store
from harness.cli.options import StoreOption

if TYPE_CHECKING:
    from harness.records.store import Store


def claims(
    suite: Annotated[
        str | None, typer.Argument(help="Only claims tested on this suite, e.g. paper.scifar.")
    ] = None,
    store: StoreOption = None,
    claims_file: Annotated[
        Path | None,
        typer.Option("--claims", help="A file of claims [default: those of the paper, and ours]."),
    ] = None,
    records: Annotated[
        Path | None,
        typer.Option(
            help="A folder with the tables of SUITE, e.g. results/signal, in place of a store."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say of each claim, the paper's and ours, whether the trials in the store reproduce it."""
    if records is not None:
        if suite is None or store is not None:
            raise ValueError("--records takes the place of --store and needs a SUITE")
        print(claims_text(records, suite, claims_file, as_json))
    else:
        print(claims_text(open_store(store, create=False), suite, claims_file, as_json))


def claims_text(store: Store | Path, suite: str | None, file: Path | None, as_json: bool) -> str:
    """The verdicts of all claims, or of those tested on `suite`, as text or JSON.

    In place of a store a folder with the tables of `suite` will do.

    Raises:
        ValueError: a claims file that is broken, or names a suite, row or column that does not
            exist; a suite that no claim names; damaged records.
    """
    from harness.report.claims import lines
    from harness.report.claims.read import all_claims, read_claims
    from harness.report.claims.verdicts import verdicts, verdicts_on

    claims = all_claims() if file is None else read_claims(file)
    if isinstance(store, Path):
        from harness.records.suite_records import SuiteRecords

        assert suite is not None
        judged = verdicts_on(claims, SuiteRecords(store, suite), suite)
    else:
        judged = verdicts(claims, store, suite)
    return lines.as_json(judged, claims) if as_json else lines.text(judged, claims)
