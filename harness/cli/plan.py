"""`harness plan`. Imports are delayed until needed."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from harness.cli.naming import open_store, planned
from harness.cli.options import SetOption, StoreOption, SuiteArgument


def plan(
    suite: SuiteArgument,
    store: StoreOption = None,
    settings: SetOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show trials by stage, done and missing, with estimated FLOPs, time, disk; changes nothing."""
    from harness.planning.estimate import plan_summary
    from harness.planning.plan import Plan

    found, is_study = planned(suite, store)
    place = open_store(store, create=False)
    if is_study:
        from harness.tune.cost_estimate import cost_estimate, cost_lines

        if settings:
            raise ValueError("--set is for suites; a study is changed in its file")
        expected = cost_estimate(found, place)
        print(json.dumps(expected) if as_json else "\n".join(cost_lines(expected)))
        return
    from harness.suite import override

    result = plan_summary(Plan(override(found, settings or []), place))
    if as_json:
        print(json.dumps(result))
        return
    from harness.planning.plan_lines import plan_lines

    print("\n".join(plan_lines(result)))
