"""The runs of trials in MLflow, which takes one at a time, in three calls."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.records.mirror import mlflow_io
from harness.records.mirror.mirror_content import NAME, MirroredTrial

if TYPE_CHECKING:
    from mlflow import MlflowClient

TRIAL, CONTENT, PARENT = "harness.trial_id", "harness.content", "mlflow.parentRunId"


@dataclass(frozen=True)
class Child:
    """A trial, and the run of its launch."""

    trial: MirroredTrial
    parent: str


def add(client: MlflowClient, experiment: str, children: Sequence[Child], at_a_time: int) -> None:
    """Add a run for each. One that is interrupted lacks the tag of its content.

    Raises:
        OSError, MlflowException, ...: see `mlflow_io.failures`.
    """
    if at_a_time == 1:
        for child in children:
            _add(client, experiment, child)
        return
    with ThreadPoolExecutor(at_a_time) as adding:
        added = [adding.submit(_add, client, experiment, child) for child in children]
        try:
            for one in added:
                one.result()
        finally:  # after a failure, or Ctrl-C, those that wait are not begun
            adding.shutdown(wait=False, cancel_futures=True)


def _add(client: MlflowClient, experiment: str, child: Child) -> None:
    trial = child.trial
    run = client.create_run(
        experiment,
        start_time=trial.started,
        tags={**trial.tags, TRIAL: trial.trial_id, PARENT: child.parent},
        run_name=trial.tags[NAME],
    )
    metrics = [(name, value, trial.ended, step) for name, value, step in trial.metrics]
    mlflow_io.log(client, run.info.run_id, trial.params, metrics, {CONTENT: trial.content})
    client.set_terminated(run.info.run_id, trial.status, trial.ended)


__all__ = ["CONTENT", "TRIAL", "Child", "add"]
