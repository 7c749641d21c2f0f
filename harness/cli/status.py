"""`harness status`. Imports are delayed until needed."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.naming import open_store, recorded_name
from harness.cli.options import StoreOption

if TYPE_CHECKING:
    from harness.launch.watch.status import LaunchStatus
    from harness.records.store import Store

WATCH_EVERY = 5.0  # seconds


def status(
    suite: Annotated[
        str | None, typer.Argument(help="A suite or study [all that were launched].")
    ] = None,
    store: StoreOption = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look every 5 s until every launch is over.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a line a look.")] = False,
) -> None:
    """Show launches, running or over, from the store alone: from any machine that sees it."""
    from harness.launch.watch.status import Watch

    place = open_store(store, create=False)
    name, watcher = _name(suite, place), Watch(place)
    found = watcher.look(name)
    _show(found, place, as_json, watch)
    while watch and any(one.is_alive for one in found):
        time.sleep(WATCH_EVERY)
        found = watcher.look(name)
        _show(found, place, as_json, watch)


def _name(suite: str | None, place: Store) -> str | None:
    from harness.records.launch_notes import suites_with_notes

    if suite is None or suite in suites_with_notes(place):
        return suite
    return recorded_name(suite, place)[0]


def _show(found: list[LaunchStatus], place: Store, as_json: bool, again: bool) -> None:
    from harness.records.drained import drained_nodes

    drained = drained_nodes(place)
    if as_json:
        print(json.dumps([{**one.as_json(), "drained": [*drained]} for one in found]), flush=True)
        return
    from harness.launch.watch.lines import drained_lines, status_lines

    if again and sys.stdout.isatty():
        print("\x1b[H\x1b[2J", end="")  # a clean screen
    elif again:
        print(time.strftime("%H:%M:%S"))
    parts = [*map(status_lines, found), *drained_lines(drained, time.time())]
    print("\n\n".join("\n".join(lines) for lines in parts), flush=True)
