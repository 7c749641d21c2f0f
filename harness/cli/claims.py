"""`harness claims`: the published claims, tested on the trials in a store."""

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
        typer.Option("--claims", help="A file of claims [default: those of the paper]."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say of each published claim whether the trials in the store reproduce it."""
    print(claims_text(open_store(store, create=False), suite, claims_file, as_json))


def claims_text(store: Store, suite: str | None, file: Path | None, as_json: bool) -> str:
    """The verdicts of all claims, or of those tested on `suite`, as text or JSON.

    Raises:
        ValueError: a claims file that is broken, or names a suite, row or column that does not
            exist; a suite that no claim names; damaged records.
    """
    from harness.report.claims import lines
    from harness.report.claims.read import SHIPPED, read_claims
    from harness.report.claims.verdicts import verdicts

    claims = read_claims(file or SHIPPED)
    judged = verdicts(claims, store, suite)
    return lines.as_json(judged, claims) if as_json else lines.text(judged, claims)
