"""Jobs and sinks for the tests, and tiny trials."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from harness.launch import Job, Outcome
from harness.launch.progress import Snapshot
from harness.suite import TrialSpec


def tiny(seed: int = 0, steps: int = 1, **training: Any) -> TrialSpec:
    """A digits trial of milliseconds a step."""
    content = {
        "task": {"name": "digits"},
        "model": {"blocks": 1, "width": 4, "state_dim": 4},
        "training": {"steps": steps, **training},
        "arm": {"kind": "full"},
        "seed": seed,
    }
    return TrialSpec.model_validate_json(json.dumps(content))


def job(spec: TrialSpec, **needs: Any) -> Job:
    """The job of a trial."""
    return Job(spec.trial_id, spec.model_dump(mode="json"), f"tiny {spec.seed}", **needs)


class FakeJobs:
    """Stages of jobs: the next is ready when all of this one have completed. Keeps a diary."""

    def __init__(self, *stages: list[Job]):
        self.stages = list(stages)
        self.broken = False
        self.open: set[str] = set()
        self.diary: list[tuple[str, str]] = []
        self.outcomes: dict[str, Outcome] = {}

    def ready(self) -> list[Job]:
        if self.open or self.broken or not self.stages:
            return []
        stage = self.stages.pop(0)
        self.open = {job.trial_id for job in stage}
        self.diary += [("out", job.trial_id) for job in stage]
        return stage

    def done(self, trial_id: str, outcome: Outcome) -> None:
        self.open.discard(trial_id)
        self.broken |= outcome.status != "completed"
        self.diary.append(("done", trial_id))
        self.outcomes[trial_id] = outcome

    def pending(self) -> int:
        return sum(map(len, self.stages))

    def note(self) -> str:
        return f"{len(self.stages)} stages left"


class Watcher:
    """A sink that calls back."""

    def __init__(self, callback: Callable[[Snapshot], None] = lambda _: None):
        self.callback = callback
        self.snapshots: list[Snapshot] = []
        self.closed = 0
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def update(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot)
        self.callback(snapshot)

    def close(self) -> None:
        self.closed += 1
