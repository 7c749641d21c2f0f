"""Every step that trials have in common is trained once, and what is kept for it goes again."""

from __future__ import annotations

import itertools
import json
import random

import pytest
import torch

from harness.launch import Job, Outcome
from harness.launch.plan_jobs import PlanJobs
from harness.models import build
from harness.planning.estimate import state_bytes
from harness.planning.forks import arrange_forks
from harness.planning.plan import Plan
from harness.records.store import Store
from harness.suite import Comparison, InTrainingSpec, PostHocSpec, SmallSpec, Suite, TrialSpec
from harness.suite.fork_family import common_steps, family
from harness.training.trial import Execution, Fork, run_trial

STEPS = 100


def trial(arm="full", seed=0, **knobs):
    return TrialSpec(
        task={"name": "digits"},
        model={"blocks": 1, "width": 4, "state_dim": 8},
        training={"steps": STEPS, "batch_size": 20, "evaluate_every": 50},
        arm={"kind": arm, **knobs},
        seed=seed,
    )


def cut(start, end, count=1, **knobs):
    return trial("in_training", start=start, end=end, count=count, **knobs)


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / "store")


def none_ended(_):
    return False


@pytest.mark.parametrize(
    ("one", "two", "steps"),
    [
        (trial(), trial(), 100),
        (trial(), cut(0.1, 0.3), 30),
        (trial(), cut(0.1, 0.5, 2), 30),
        (cut(0.1, 0.5, 2), cut(0.1, 0.7, 3), 70),
        (cut(0.1, 0.5, 2), cut(0.2, 0.4, 2), 40),
        (cut(0.1, 0.5, 2), cut(0.1, 0.5, 2, tau=0.2), 30),
        (cut(0.1, 0.5, 2), cut(0.1, 0.5, 2, moments="reset"), 30),
    ],
)
def test_what_two_trials_share(one, two, steps):
    assert common_steps(one, two) == common_steps(two, one) == steps


def test_families_differ_in_all_but_the_arm():
    assert family(trial()) == family(cut(0.1, 0.3))
    assert family(trial()) != family(trial(seed=1))
    assert family(trial("post_hoc", tau=0.1)) is None


def test_trials_fork_from_full_and_from_each_other(store):
    parent, early, late = trial(), cut(0.1, 0.2), cut(0.1, 0.6)
    nested = cut(0.0, 0.4, 2)  # steps 20 and 40: shares its first truncation with `early`
    strange = trial(seed=1)
    fork_plan = arrange_forks([early, nested, late, parent, strange], store, none_ended)
    assert fork_plan.forks[early.trial_id] == (parent.trial_id, 20)
    assert fork_plan.forks[late.trial_id] == (parent.trial_id, 60)
    assert fork_plan.forks[nested.trial_id] == (early.trial_id, 40)
    assert fork_plan.keep_at == {parent.trial_id: {20, 60}, early.trial_id: {40}}
    assert strange.trial_id not in fork_plan.forks


def test_without_a_full_trial_the_latest_is_forked_from(store):
    early, late = cut(0.1, 0.2), cut(0.1, 0.6)
    fork_plan = arrange_forks([early, late], store, none_ended)
    assert fork_plan.forks == {early.trial_id: (late.trial_id, 20)}


def prefixes(spec):
    """Each step of a trial, named by all that was done before it."""
    acts = dict(spec.arm.event_keys(spec.training))
    done = ()
    for step in range(STEPS):
        done += (acts[step],) if step in acts else ("",)
        yield done


def test_no_step_is_trained_twice(store):
    random.seed(3)
    grid = itertools.product((0.0, 0.2, 0.4), (0.1, 0.2, 0.4), (1, 2, 4), (0.1, 0.2))
    trials = [cut(s, s + length, count, tau=tau) for s, length, count, tau in grid]
    trials.append(trial())
    random.shuffle(trials)
    fork_plan = arrange_forks(trials, store, none_ended)
    spent = sum(STEPS - fork_plan.forks.get(t.trial_id, ("", 0))[1] for t in trials)
    assert spent == len({prefix for t in trials for prefix in prefixes(t)})
    assert len(fork_plan.forks) == len(trials) - 1


def test_an_ended_trial_is_parted_from_only_where_it_kept_its_state(store):
    parent, fork, other = trial(), cut(0.1, 0.6), cut(0.1, 0.3)
    run_trial(parent, store, Execution(keep_at=(25,)))
    ended = {parent.trial_id}.__contains__
    fork_plan = arrange_forks([parent, fork, other], store, ended)
    assert fork_plan.forks[fork.trial_id] == (parent.trial_id, 25)
    assert fork_plan.forks[other.trial_id] == (fork.trial_id, 30)
    assert parent.trial_id not in fork_plan.keep_at


def suite():
    shrink = InTrainingSpec(kind="in_training", tau=0.3, start=0.2, end=0.6, count=2)
    arms = {
        "full": {"kind": "full"},
        "in_training": shrink,
        "post_hoc": PostHocSpec(kind="post_hoc", match="seed", to=shrink),
        "small": SmallSpec(kind="small", match="seed", to=shrink),
    }
    base = trial()
    return Suite(
        name="s",
        comparisons=[
            Comparison(task=base.task, model=base.model, training=base.training, arms=arms)
        ],
    )


def play(jobs, store):
    """Run what is ready, one after the other; the jobs in their order."""
    played: list[Job] = []
    while ready := jobs.ready():
        for job in ready:
            spec = TrialSpec.model_validate_json(json.dumps(job.spec))
            fork = Fork(*job.fork) if job.fork else None
            result = run_trial(spec, store, Execution(fork=fork, keep_at=job.keep_at))
            played.append(job)
            jobs.done(job.trial_id, Outcome(result["status"], None, 0.0))
    return played


def test_a_fork_waits_for_the_state_and_it_goes_when_all_have_ended(store):
    jobs = PlanJobs(Plan(suite(), store))
    first = jobs.ready()
    assert [job.spec["arm"]["kind"] for job in first] == ["full"]
    assert first[0].keep_at == (40,)
    jobs.given.clear()
    played = play(jobs, store)
    assert [job.spec["arm"]["kind"] for job in played] == [
        "full", "in_training", "post_hoc", "full"
    ]  # fmt: skip
    assert played[1].fork == (played[0].trial_id, 40)
    assert store.trial(played[1].trial_id).result()["record"]["forked_from"] == played[0].trial_id
    assert not list(store.root.glob("trials/*/forks"))


def test_a_fork_whose_parent_failed_on_its_machine_runs_alone(store):
    jobs = PlanJobs(Plan(suite(), store))
    (parent,) = jobs.ready()
    assert jobs.ready() == []
    jobs.done(parent.trial_id, Outcome("faulted", "lost", 0.0))
    assert [job.spec["arm"]["kind"] for job in jobs.ready()] == ["in_training"]


def test_without_forks_all_begin_at_once(store):
    jobs = PlanJobs(Plan(suite(), store), fork=False)
    assert [(job.fork, job.keep_at) for job in jobs.ready()] == [(None, ())] * 2


def test_what_an_interrupted_run_left_is_swept(store):
    run_trial(trial(), store, Execution(keep_at=(10, 40, 77)))
    jobs = PlanJobs(Plan(suite(), store))
    jobs.fork_plan.sweep()
    assert store.trial(trial().trial_id).forks() == [40]


@pytest.mark.parametrize("task", [{"name": "digits"}, {"name": "pylib"}])
@pytest.mark.parametrize("mixer", ["glu", "linear"])
def test_the_bytes_of_a_state_are_those_of_four_models(task, mixer):
    spec = trial().model_copy(update={"task": TrialSpec(task=task, arm={"kind": "full"}).task})
    spec = spec.model_copy(update={"model": spec.model.model_copy(update={"mixer": mixer})})
    model = build(spec.model, spec.task.info)
    numbers = sum(t.numel() for t in model.state_dict().values() if t.dtype == torch.float32)
    assert state_bytes(spec) == pytest.approx(16 * numbers, rel=0.02)
