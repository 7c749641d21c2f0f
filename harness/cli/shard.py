"""`harness shard`: parse, call, print. Imports are delayed until needed."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from harness.cli.naming import open_store, suite_of
from harness.cli.options import SetOption, StoreOption, SuiteArgument
from harness.cli.refusals import check_folder


def shard(
    suite: SuiteArgument,
    part: Annotated[str, typer.Option(help="NUMBER/OF, e.g. 2/8: every eighth trial.")],
    store: StoreOption = None,
    settings: SetOption = None,
) -> int:
    """Run a part of a suite's trials in this process, without Ray; `run` then makes the tables."""
    wanted = suite_of(suite, settings)
    check_folder()
    from harness.launch.shard import Part, run_shard

    share = Part.parse(part)
    unfinished = run_shard(wanted, open_store(store, create=True), share)
    for line in unfinished:
        print(line, file=sys.stderr)
    return 3 if unfinished else 0
