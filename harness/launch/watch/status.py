"""Launches as the store tells of them: alive, or over and how they ended."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from harness.records.launch_notes import StoredNote, read_notes, suites_with_notes
from harness.records.store import Store
from harness.tools.notes import say

from .note import LaunchNote

SILENT = 60.0  # seconds without a note after which a launch counts as killed


@dataclass(frozen=True)
class LaunchStatus:
    """A launch's newest note, and its age in seconds."""

    note: LaunchNote
    age: float

    @property
    def is_alive(self) -> bool:
        """Whether the driver still notes what it does."""
        return self.note.state == "running" and self.age <= SILENT

    @property
    def state(self) -> Literal["running", "silent", "done", "interrupted", "lost", "failed"]:
        """As noted; `silent` if the driver has stopped noting: killed, cut off or out of disk."""
        return "silent" if self.note.state == "running" and not self.is_alive else self.note.state

    def as_json(self) -> dict[str, Any]:
        """The note and what follows from its age."""
        said = self.note.model_dump(mode="json")
        return {**said, "state": self.state, "alive": self.is_alive, "age": self.age}


class Watch:
    """Looks at the launches of a store again and again.

    A launch whose note has changed between two looks is alive, however much the clock of this
    machine and that of the store differ.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.seen: dict[str, tuple[bytes, float | None]] = {}  # note, and when it changed here

    def look(self, suite: str | None = None) -> list[LaunchStatus]:
        """Each suite's newest launch and those beside it, the newest first.

        Raises:
            ValueError: there is no store, or no launch has left a note in it; one line.
        """
        if not self.store.has_records():
            raise ValueError(
                f"{self.store.address} is no store: it holds neither trials nor suites"
            )
        names = [suite] if suite is not None else suites_with_notes(self.store)
        shown = [status for name in names for status in self._of(name)]
        if not shown:
            of = f"suite {suite}" if suite is not None else "the trials"
            raise ValueError(
                f"no launch has left a note of its state in {self.store.address}: {of} ran "
                "elsewhere, or before launches left any"
            )
        return sorted(shown, key=lambda status: -status.note.begun)

    def _of(self, suite: str) -> list[LaunchStatus]:
        found = [one for stored in read_notes(self.store, suite) if (one := self._read(stored))]
        newest = max((one.note.begun for one in found), default=0.0)
        return [one for one in found if one.is_alive or one.note.written >= newest]

    def _read(self, stored: StoredNote) -> LaunchStatus | None:
        try:
            note = LaunchNote.model_validate_json(stored.data)
        except ValidationError:
            say(f"the note of launch {stored.launch} cannot be read, and is left out")
            return None
        return LaunchStatus(note, self._age(stored))

    def _age(self, stored: StoredNote) -> float:
        now = time.monotonic()
        data, changed = self.seen.get(stored.launch, (stored.data, None))
        if data != stored.data:
            changed = now
        self.seen[stored.launch] = stored.data, changed
        by_store = max(time.time() - stored.modified, 0.0)
        return by_store if changed is None else min(by_store, now - changed)


__all__ = ["LaunchStatus", "Watch"]
