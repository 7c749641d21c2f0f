"""One trial in this process, stopped by signals at a boundary."""

from __future__ import annotations

import signal
import sys
from typing import Any

from harness.records.store import Store
from harness.suite.specs import TrialSpec

from .trial import Interrupted, Setting, run_trial


def run_alone(spec: TrialSpec, store: Store) -> dict[str, Any]:
    """Run a trial; SIGINT and SIGTERM take a checkpoint and end as `KeyboardInterrupt`."""
    asked: list[int] = []
    before = {s: signal.signal(s, lambda n, _: asked.append(n)) for s in STOPS}
    try:
        return run_trial(spec, store, Setting(stop=lambda: bool(asked)))
    except Interrupted as stopped:
        print(f"{stopped}; the same command goes on from there", file=sys.stderr)
        raise KeyboardInterrupt from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


STOPS = (signal.SIGINT, signal.SIGTERM)
