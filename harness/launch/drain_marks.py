"""Heeds the marks of drained nodes in the store, by a thread of its own: a store that hangs does
not hold the launch up."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Collection, Iterator
from dataclasses import replace

import psutil

from harness.records.drained import drained_nodes, is_name_of
from harness.records.store import Store

from .cluster import Node

LOOK_EVERY = 3.0  # seconds between listings of the marks


class DrainMarks:
    """The marks as last seen."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.names: Collection[str] = ()
        self.over = threading.Event()
        self.look()

    def look(self) -> None:
        """List the marks. If the store fails, those that were seen last still hold."""
        with contextlib.suppress(OSError):
            self.names = drained_nodes(self.store)

    def run(self, every: float) -> None:
        """Look until told to stop."""
        while not self.over.wait(every):
            self.look()

    @property
    def is_here(self) -> bool:
        """Whether one of them means this machine."""
        names = self.names
        if not names:
            return False
        host = socket.gethostname()
        addresses = {one.address for every in psutil.net_if_addrs().values() for one in every}
        return any(is_name_of(name, host, "") or name in addresses for name in names)

    def on(self, nodes: list[Node]) -> list[Node]:
        """The nodes, those that are marked as drained."""
        names = self.names
        if not names:
            return nodes
        return [
            replace(node, drained=any(is_name_of(one, node.host, node.address) for one in names))
            for node in nodes
        ]


@contextlib.contextmanager
def drain_marks(store: Store, every: float = LOOK_EVERY) -> Iterator[DrainMarks]:
    """Look at the store's marks, with so many seconds between, until the end of the context."""
    marks = DrainMarks(store)
    threading.Thread(target=marks.run, args=(every,), daemon=True).start()
    try:
        yield marks
    finally:
        marks.over.set()


__all__ = ["DrainMarks", "drain_marks"]
