"""From a file of claims and a store to verdicts."""

from __future__ import annotations

from collections.abc import Iterable

from harness.records.store import Store
from harness.records.suite_records import SuiteRecords
from harness.report.claims.evidence import Evidence
from harness.report.claims.judge import Judged, judge
from harness.report.claims.read import suites_of
from harness.report.claims.spec import Claims
from harness.suite import load
from harness.tools.inputs import shown

SHOWN = 12  # names of suites in a message


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
            raise ValueError(_untested(only, suites))
        only = same[0]
    return judge(claims, evidence, only)


def verdicts_on(claims: Claims, records: SuiteRecords, suite: str) -> list[Judged]:
    """A verdict for every test on a suite by these records of it, wherever they lie.

    Raises:
        ValueError: as `verdicts`; also if there is no table of trials.
    """
    if not records.has_table("trials"):
        raise ValueError(f"{records.place()} has no table of trials, trials.parquet")
    suites = suites_of(claims)
    if suite not in suites:
        raise ValueError(_untested(suite, suites))
    evidence = {name: Evidence(one, records) for name, one in suites.items()}
    return judge(claims, evidence, suite)


def _untested(suite: str, suites: Iterable[str]) -> str:
    names = list(suites)
    listed = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "") or "none"
    return f"no claim is tested by a suite {shown(suite)}; they name {listed}"


def _own_name(suite: str) -> str:
    """The name that a suite gives itself. Anything but a file is taken to be such a name."""
    return load(suite).name if suite.partition(":")[0].endswith(".py") else suite


__all__ = ["verdicts", "verdicts_on"]
