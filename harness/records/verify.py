"""Compare every file of trials with its checksum."""

from __future__ import annotations

from collections.abc import Iterable

from harness.records.states import Damaged
from harness.records.store import Store


def verify(store: Store, trials: Iterable[str]) -> tuple[list[str], str]:
    """One line per damaged file of these trials, and a sentence on how much was compared."""
    found: list[str] = []
    compared = old = 0
    for trial_id in trials:
        trial = store.trial(trial_id)
        lines = trial.damage()
        found += lines
        try:
            files = trial.checksums()
        except Damaged:  # already reported
            continue
        compared += len(files)
        old += trial.ended() and not files
    said = f"{compared} files compared with their checksums, {len(found)} damaged"
    return found, said + (f"; {old} trials are older than checksums" if old else "")


__all__ = ["verify"]
