"""`harness claims`: the published claims against what a store holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.naming import open_store
from harness.cli.options import StoreOption
from harness.tools.inputs import shown

if TYPE_CHECKING:
    from harness.records.store import Store
    from harness.report.claims.judge import Judged
    from harness.report.claims.spec import Claims


def claims(
    suite: Annotated[
        str | None, typer.Argument(help="Only what this suite decides, e.g. paper.scifar.")
    ] = None,
    store: StoreOption = None,
    claims_file: Annotated[
        Path | None, typer.Option("--claims", help="A file of other claims [those of the paper].")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say of each published claim whether what the store holds reproduces it."""
    print(claims_text(open_store(store, create=False), suite, claims_file, as_json))


def claims_text(store: Store, suite: str | None, file: Path | None, as_json: bool) -> str:
    """The verdicts of all claims, or of those that `suite` decides, as text or JSON.

    Raises:
        ValueError: a file of claims that is broken, or names a suite, row or column that is not
            there; a suite that no claim names; damaged records.
    """
    from harness.report.claims import lines
    from harness.report.claims.read import SHIPPED, read_claims

    claims = read_claims(file or SHIPPED)
    judged = verdicts(claims, store, suite)
    return lines.as_json(judged, claims) if as_json else lines.text(judged, claims)


def verdicts(claims: Claims, store: Store, only: str | None = None) -> list[Judged]:
    """A verdict for every test of every claim, or for those on one suite.

    Raises:
        ValueError: as `claims_text`, or a file of a suite that is broken.
    """
    from harness.report.claims.evidence import Evidence
    from harness.report.claims.judge import judge
    from harness.report.claims.read import suites_of

    suites = suites_of(claims)
    evidence = {name: Evidence(one, store.suite(one.name)) for name, one in suites.items()}
    if only is not None and only not in suites:
        own = _own_name(only)
        if own in store.suites():  # a run of one of these suites under another name
            records = store.suite(own)
            own = str(records.plan_or_empty().get("of", own))
            evidence = {name: Evidence(one, records) for name, one in suites.items()}
        same = [name for name, one in suites.items() if one.name == own]
        if not same:
            listed = ", ".join(suites) or "none"
            raise ValueError(f"no claim is tested by a suite {shown(only)}; they name {listed}")
        only = same[0]
    return judge(claims, evidence, only)


def _own_name(suite: str) -> str:
    """The name that a suite gives itself; what names no file is taken for such a name."""
    from harness.suite import load

    return load(suite).name if suite.partition(":")[0].endswith(".py") else suite
