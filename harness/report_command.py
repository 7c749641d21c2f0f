"""What `harness report` does: make a report anew, and say which records are damaged."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from harness.notes import say
from harness.rebuild import lacking
from harness.records.store import Store


def report_anew(name: str, is_study: bool, store: Store, verify: bool) -> int:
    """Rebuild the report, print its page's path, and, to `verify`, compare every file of its trials
    with its checksum; the exit code.

    Raises:
        ValueError: no record of the suite or study in this store.
    """
    if is_study:
        from harness.tune.rebuild import rebuild_study, trials_of_study

        page, damaged = rebuild_study(name, store)
    else:
        from harness.rebuild import rebuild, trials_of

        page, damaged = rebuild(name, store)
    print(page)
    for line in lacking(name, store):
        say(f"note: {line}")
    if verify:
        from harness.records.verify import verify as compare

        trials = trials_of_study(name, store) if is_study else trials_of(name, store)
        found, said = compare(store, trials)
        print(said, file=sys.stderr)
        damaged += [line for line in found if line not in damaged]
    return left_out(damaged)


def left_out(damaged: Iterable[str]) -> int:
    """Say which records are damaged; the exit code: the rest is kept and reported."""
    lines = list(damaged)
    for line in lines:
        print(line, file=sys.stderr)
    return 3 if lines else 0
