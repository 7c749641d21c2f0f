"""Notes a launch's state in the store and copies results to its index, by a thread of its own: the
launch never waits for it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from harness.records.launch_notes import write_note
from harness.records.store import Store
from harness.tools.inputs import cut, os_reason
from harness.tools.notes import say
from harness.tools.redact import redacted

from ..jobs import Interrupted, Lost
from ..progress.snapshot import Snapshot
from .indexer import Indexer
from .note import LaunchNote, State

NOTE_EVERY = 5.0  # seconds
LAST_WAIT = 10.0  # seconds that the last note may take


class Journal:
    """A progress sink whose newest snapshot is noted every few seconds, from `begin` to `end`.

    A note that cannot be written is told in one line, and the next is tried as usual.
    """

    def __init__(self, store: Store, suite: str, every: float = NOTE_EVERY, **facts: Any) -> None:
        self.store, self.every = store, every
        self.note = LaunchNote(
            suite=suite,
            host=os.uname().nodename,
            process=os.getpid(),
            begun=time.time(),
            **facts,
        )
        self.newest: tuple[Snapshot, float] | None = None  # and when it was taken
        self.indexer = Indexer(store)
        self.last: dict[str, Any] = {}
        self.trouble = ""
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def begin(self) -> None:
        """The launch has passed its checks and may write."""
        self.note = self.note.model_copy(update={"begun": time.time(), "as_of": time.time()})
        self.thread.start()

    def say(self, text: str) -> None:
        """Nothing: messages are for people."""

    def update(self, snapshot: Snapshot) -> None:
        """Keep the snapshot for the next note."""
        self.newest = snapshot, time.time()

    def close(self) -> None:
        """Nothing is open; see `end`."""

    def end(self, state: State, **changes: Any) -> None:
        """Note how the launch ended, if it had begun; `changes` are fields of the last note."""
        if not self.thread.is_alive():
            return
        self.last = {"state": state, "running": (), "left": None, **changes}
        self.over.set()
        self.thread.join(LAST_WAIT)

    def _run(self) -> None:
        self._write()
        while not self.over.wait(self.every):
            self._write()
        self._write()

    def _write(self) -> None:
        note = self.note
        if self.newest is not None:
            note = note.with_snapshot(*self.newest)
        note = note.model_copy(update={**self.last, "written": time.time()})
        try:
            write_note(self.store, note.suite, note.launch, note.model_dump_json().encode())
            if self.newest is not None:
                self.indexer.take(self.newest[0].ended, last=self.over.is_set())
        except OSError as error:
            if (trouble := os_reason(error)) != self.trouble:
                say(f"harness status will not know of this launch: {trouble}")
            self.trouble = trouble


@contextlib.contextmanager
def noted(store: Store, suite: str, **facts: Any) -> Iterator[Journal]:
    """A journal of the launch in this context; `facts` are fields of its note."""
    journal = Journal(store, suite, **facts)
    try:
        yield journal
    except Interrupted as stopped:
        counts = Counter(outcome.status for _, outcome in stopped.outcomes)
        journal.end("lost" if isinstance(stopped, Lost) else "interrupted", counts=counts)
        raise
    except BaseException as error:
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        journal.end("failed", message=cut(redacted(said)))
        raise
    journal.end("done")


__all__ = ["Journal", "noted"]
