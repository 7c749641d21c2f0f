"""Copies the results of a launch's trials into the store's index while the launch runs."""

from __future__ import annotations

import time
from collections.abc import Sequence

from harness.records.index import add_to_index, copy_of
from harness.records.listing import Stamp
from harness.records.store import Store

from ..progress.snapshot import Ended

AT_A_TIME = 200  # trials that are looked up between two notes; collecting indexes the rest
ENOUGH, LONG_ENOUGH = 500, 600.0  # copies, or seconds, for a segment of their own


class Indexer:
    """What has ended, and the copies that are not in the index yet."""

    def __init__(self, store: Store) -> None:
        self.store, self.seen = store, 0
        self.copies: dict[tuple[str, Stamp], str] = {}
        self.since = time.monotonic()

    def take(self, ended: Sequence[Ended], last: bool = False) -> None:
        """Copy the results of trials that are new in the list. Raises OSError."""
        for one in ended[self.seen : self.seen + AT_A_TIME]:
            self.seen += 1
            self.copies |= copy_of(self.store, one.trial_id)
        late = time.monotonic() - self.since > LONG_ENOUGH
        if last or late or len(self.copies) >= ENOUGH:
            add_to_index(self.store, self.copies)
            self.copies, self.since = {}, time.monotonic()


__all__ = ["Indexer"]
