"""From a file of claims and a store to verdicts."""

from __future__ import annotations

from harness.records.store import Store
from harness.report.claims.evidence import Evidence
from harness.report.claims.judge import Judged, judge
from harness.report.claims.read import suites_of
from harness.report.claims.spec import Claims
from harness.suite import load
from harness.tools.inputs import shown


def verdicts(claims: Claims, store: Store, only: str | None = None) -> list[Judged]:
    """A verdict for every test of every claim, or only for the tests on one suite.

    `only` names a suite as the claims do, or a run of one that is recorded under another name.

    Raises:
        ValueError: a claim names a suite, row or column that does not exist; a broken suite file;
            a suite that no claim names; damaged records.
    """
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
    """The name that a suite gives itself. Anything but a file is taken to be such a name."""
    return load(suite).name if suite.partition(":")[0].endswith(".py") else suite


__all__ = ["verdicts"]
