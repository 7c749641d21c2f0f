"""Runs one trial in this process; signals stop it at its next boundary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.records.lease import Watch
from harness.records.store import Store
from harness.suite.specs import TrialSpec
from harness.tools.notes import say

from .host.stops import Signals, stoppable
from .trial import Execution, Interrupted, run_trial

ANSWER = "stopping: the trial takes a checkpoint at its next boundary; repeat to stop at once"


def run_alone(
    spec: TrialSpec,
    store: Store,
    watch: Watch | None = None,
    leaves: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Run a trial; Ctrl-C, SIGTERM and SIGHUP take a checkpoint and end as `KeyboardInterrupt`.

    Raises Busy if another process runs it, unless `watch` has seen that one fall silent; and
    `Interrupted`, with a checkpoint taken, once it `leaves`.
    """
    with stoppable(Signals(abrupt=True)) as signals:

        def begun(_: dict[str, Any]) -> None:
            signals.watched, signals.answer = True, ANSWER

        try:
            execution = Execution(begun, lambda: signals.asked or leaves(), watch=watch)
            return run_trial(spec, store, execution)
        except Interrupted as stopped:
            if not signals.asked:
                raise
            say(f"{stopped}; the same command continues from there")
            raise KeyboardInterrupt from None
