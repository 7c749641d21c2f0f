"""Progress of a launch: what is known, how long it will take, and how it is shown."""

from .sinks import LineProgress, LiveProgress, ProgressSink, Several, Unbroken, make_progress
from .snapshot import Ended, Running, Snapshot, duration

__all__ = [
    "Ended",
    "LineProgress",
    "LiveProgress",
    "ProgressSink",
    "Running",
    "Several",
    "Snapshot",
    "Unbroken",
    "duration",
    "make_progress",
]
