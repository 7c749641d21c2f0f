"""Runs one trial in this process; signals stop it at its next boundary."""

from __future__ import annotations

from typing import Any

from harness.records.store import Store
from harness.suite.specs import TrialSpec
from harness.tools.notes import say

from .host.stops import Signals, stoppable
from .trial import Execution, Interrupted, run_trial

ANSWER = "stopping: the trial takes a checkpoint at its next boundary; repeat to stop at once"


def run_alone(spec: TrialSpec, store: Store) -> dict[str, Any]:
    """Run a trial; Ctrl-C, SIGTERM and SIGHUP take a checkpoint and end as `KeyboardInterrupt`."""
    with stoppable(Signals(abrupt=True)) as signals:

        def begun(_: dict[str, Any]) -> None:
            signals.watched, signals.answer = True, ANSWER

        try:
            return run_trial(spec, store, Execution(progress=begun, stop=lambda: signals.asked))
        except Interrupted as stopped:
            say(f"{stopped}; the same command continues from there")
            raise KeyboardInterrupt from None
