"""A study of tiny trials, played without Ray in an order of one's choice."""

from __future__ import annotations

import json
import random
import time

from harness.launch import Interrupted, Outcome
from harness.launch.run_suite import RunOptions, RunSummary
from harness.records.store import Store
from harness.suite import TrialSpec
from harness.training.trial import Execution, Fork, run_trial
from harness.tune import Study
from harness.tune.ledger import Ledger
from harness.tune.run_study import conclude
from harness.tune.search.ask_and_tell import open_search
from harness.tune.study_jobs import StudyJobs
from harness.tune.study_stages import StudyStages

STUDY = {
    "name": "tiny",
    "base": {
        "task": {"name": "digits"},
        "model": {"blocks": 1, "width": 4, "state_dim": 12},
        "training": {"steps": 40, "batch_size": 20, "evaluate_every": 20, "lr": 0.02},
        "arm": {"kind": "in_training"},
    },
    "space": {
        "start": {"low": 0.0, "high": 0.4},
        "length": {"low": 0.1, "high": 0.4},
        "count": {"low": 1, "high": 2},
        "tau": {"low": 0.05, "high": 0.5},
    },
    "seeds": [0, 1],
    "confirm_seeds": [10, 11],
    "goal": "constrained",
    "margin": 0.5,
    "enqueue": [{"start": 0.0, "end": 0.1, "count": 1, "tau": 0.1}],
    "startup": 3,
    "grid": 20,
    "batch": 4,
    "finalists": 1,
    "budget": {"candidates": 8},
}


def tiny_study(**changes):
    return Study.model_validate_json(json.dumps(STUDY | changes))


class Killed(Exception):
    """The driver is gone, whatever it was about to do."""


def launching(stop=None, kill=None, end=None):
    """A launch without Ray, in the place of `harness.launch.launch`, which trains one job after
    another. It is interrupted when `stop` trials have ended, and killed (as far as files tell)
    when `kill` have; `end(job)` may give another outcome than training does."""

    def launch(jobs, root, *, begin=lambda: None, **_):
        waiting, ended = jobs.ready(), []
        if waiting:
            begin()
        while waiting:
            if len(ended) == stop:
                raise Interrupted(ended)
            if len(ended) == kill:
                raise Killed
            job = waiting.pop(0)
            outcome = end(job) if end else run(job, Store(root))
            ended.append((job, outcome))
            jobs.done(job.trial_id, outcome)
            waiting += jobs.ready()
        return ended

    return launch


def play(study, store, *, order=None, die_after=None, lose=(), report=False):
    """Run a study to its end and return its ledger.

    `order` shuffles which ready trial ends first, `die_after` kills the driver after so many have
    ended, trials in `lose` are lost with their machines, and only `report` makes tables, figures
    and the recommendation.
    """
    shuffle = random.Random(order)
    ledger = Ledger(study, store, "harness tune tiny")
    ended = 0
    with open_search(study, None, store) as search:
        course = StudyStages(study, search, ledger)
        jobs = StudyJobs(course.stages(), store, RunOptions(), course.ahead, lambda: "")
        waiting = []
        while True:
            waiting += jobs.ready()
            if not waiting:
                break
            job = waiting.pop(shuffle.randrange(len(waiting)) if order is not None else 0)
            outcome = Outcome("faulted", "lost", 0.0) if job.trial_id in lose else run(job, store)
            jobs.done(job.trial_id, outcome)
            ended += 1
            if ended == die_after:
                raise Killed
        ledger.write()
        if report:
            conclude(ledger, time.time(), RunSummary(store.suite(study.name)))
    return ledger


def run(job, store):
    spec = TrialSpec.model_validate_json(json.dumps(job.spec))
    fork = Fork(*job.fork) if job.fork else None
    result = run_trial(spec, store, Execution(fork=fork, keep_at=job.keep_at))
    return Outcome(result["status"], result["message"], 0.0)


def concluded(store, name="tiny"):
    """What a study found, without what was spent on it and what was concluded at the end."""
    content = json.loads((store.suite(name).folder / "study.json").read_text())
    passing = ("spent", "recommendation", "checksum")
    return {key: value for key, value in content.items() if key not in passing}
