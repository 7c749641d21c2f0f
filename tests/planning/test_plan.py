"""What a plan takes as missing, and how many trials it says there are."""

import pytest

from harness.launch import Outcome
from harness.launch import run_suite as run
from harness.launch.plan_jobs import PlanJobs
from harness.planning.estimate import estimated_flops, plan_summary
from harness.planning.plan import Plan
from harness.planning.plan_lines import plan_lines
from harness.records.store import Store
from harness.suite import (
    Comparison,
    DistillSpec,
    FullSpec,
    HankelRegularizedSpec,
    InTrainingSpec,
    PostHocSpec,
    SmallSpec,
    Suite,
    TaskSpec,
)

SHRINK = InTrainingSpec(kind="in_training")
HALF = InTrainingSpec(kind="in_training", tau=0.5)


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / "store")


def suite_of(seeds=(0,), **arms):
    comparison = Comparison(task=TaskSpec(name="digits"), arms=arms, seeds=seeds)
    return Suite(name="some", comparisons=(comparison,))


def end(store, trial_id, status, **record):
    result = {"status": status, "record": {"trial_id": trial_id, "status": status, **record}}
    store.trial(trial_id).finish({}, result)


def test_only_what_is_selected_is_run_again(store, monkeypatch):
    suite = suite_of(full=FullSpec(kind="full"), shrunk=SHRINK)
    full, shrunk = (row.spec.trial_id for row in Plan(suite, store).rows)
    for trial_id in (full, shrunk):
        end(store, trial_id, "failed")
    handed_out = []

    def launch(jobs, root, *, begin, **_):
        begin()
        handed_out.extend(job.trial_id for job in jobs.ready())
        return []

    monkeypatch.setattr(run, "launch", launch)
    monkeypatch.setattr(run, "publish_run", lambda *_: 0.0)
    options = run.RunOptions(only="digits/shrunk", retry=("failed",))
    summary = run.run_suite(suite, store, "harness run", options)
    assert handed_out == [shrunk]
    assert store.ended_trials() == [full]
    assert summary.unfinished == ["missing digits/shrunk, seed 0"]


def test_rows_that_share_a_trial_are_counted_once(store):
    small = SmallSpec(kind="small", match="seed", to=SHRINK)
    suite = suite_of(full=FullSpec(kind="full"), shrunk=SHRINK, small=small)
    first = plan_lines(plan_summary(Plan(suite, store)))[0]
    assert first.endswith(": 3 trials, 3 missing")  # the size of `small` is open
    shrunk = Plan(suite, store).rows[1].spec.trial_id
    numbers = {"train_flops": 1.0, "seconds_total": 1.0, "device": "cpu", "task": "digits"}
    end(store, shrunk, "completed", state_dims=[64, 64], **numbers)
    first = plan_lines(plan_summary(Plan(suite, store)))[0]
    assert first.endswith(": 3 rows of trials (2 distinct), 2 missing")


NUMBERS = {"train_flops": 1.0, "seconds_total": 1.0, "device": "cpu", "task": "digits"}


@pytest.mark.parametrize(("spec", "waits"), [(DistillSpec, True), (HankelRegularizedSpec, False)])
def test_a_rival_of_a_matched_size_gets_it_from_the_plan(spec, waits, store):
    rival = spec(kind=spec.model_fields["kind"].annotation.__args__[0], match="seed", to=SHRINK)
    plan = Plan(suite_of(full=FullSpec(kind="full"), shrunk=SHRINK, rival=rival), store)
    full, shrunk, row = plan.rows
    assert set(row.needs) == {shrunk.spec.trial_id} | ({full.spec.trial_id} if waits else set())
    end(store, shrunk.spec.trial_id, "completed", state_dims=[9, 5], **NUMBERS)
    plan.resolve()
    assert plan.ready(row) is not waits
    if waits:
        end(store, full.spec.trial_id, "completed", state_dims=[64, 64], **NUMBERS)
        assert plan.ready(row)
    assert (row.spec.arm.kind, row.spec.arm.state_dims, row.spec.arm.match) == (
        rival.kind, (9, 5), None
    )  # fmt: skip
    assert row.role.matches == "shrunk"


def test_a_student_needs_a_full_arm_in_its_comparison():
    with pytest.raises(ValueError, match="arm 'rival' learns from the full arm: add it"):
        suite_of(rival=DistillSpec(kind="distill", state_dims=(3,)))


def test_regularized_trials_of_two_sizes_share_their_training(store):
    from harness.planning.forks import arrange_forks
    from harness.suite import TrialSpec

    trials = [
        TrialSpec(
            task=TaskSpec(name="digits"),
            arm=HankelRegularizedSpec(kind="hankel_regularized", state_dims=(n,)),
        )
        for n in (3, 5)
    ]
    full = TrialSpec(task=TaskSpec(name="digits"), arm=FullSpec(kind="full"))
    fork_plan = arrange_forks([full, *trials], store, lambda _: False)
    assert fork_plan.forks == {trials[1].trial_id: (trials[0].trial_id, 600)}


@pytest.mark.parametrize(
    "arm",
    [
        {"kind": "distill", "state_dims": [3]},
        {"kind": "hankel_regularized", "state_dims": [3], "penalty": "exact"},
        {"kind": "small", "state_dims": [3]},
    ],
)
def test_estimated_flops_are_those_that_a_trial_counts(arm):
    import torch

    from harness.planning.estimate import estimated_flops
    from harness.suite import TrialSpec
    from harness.training.step.objective import Objective

    trial = TrialSpec(task=TaskSpec(name="digits"), arm=arm)
    resolved = trial.resolved()
    teacher = torch.nn.Linear(1, 1) if arm["kind"] == "distill" else None
    objective = Objective(resolved, trial.task.info, torch.device("cpu"), teacher)
    step = objective.step_flops(resolved.built.state_dims, trial.training.batch_size)
    assert estimated_flops(trial) == pytest.approx(600 * step, rel=1e-9)


def test_a_damaged_result_is_told_and_neither_run_again_nor_waited_for(store):
    """It ended in ValueError before anything was run; what can be run is, and it is kept."""
    suite = suite_of(full=FullSpec(kind="full"), shrunk=SHRINK, halved=HALF)
    full, shrunk, halved = (row.spec.trial_id for row in Plan(suite, store).rows)
    end(store, full, "completed")
    path = store.trial(full).path / "result.json"
    path.write_text("{}")
    plan = Plan(suite, store)
    jobs = PlanJobs(plan, fork=False)
    assert jobs.pending() == 2
    assert {job.trial_id for job in jobs.ready()} == {shrunk, halved}
    assert jobs.pending() == 0
    assert plan.ended(full)
    said = jobs.unfinished()[0]
    assert said.startswith(f"damaged digits/full, seed 0: the record in {path.parent} is damaged")
    assert path.read_text() == "{}"
    lines = plan_lines(plan_summary(plan))
    assert any("1 damaged" in line for line in lines)


def test_jobs_say_their_stage_and_their_work_and_stages_overlap(store):
    """A trial is ready when its own prerequisite has ended, whatever else is still to be run."""
    suite = suite_of(
        seeds=(0, 1), full=FullSpec(kind="full"), after=PostHocSpec(kind="post_hoc", tau=0.1)
    )
    plan = Plan(suite, store)
    jobs = PlanJobs(plan, fork=False)
    first = jobs.ready()
    assert {(job.stage, job.work) for job in first} == {(0, estimated_flops(plan.rows[0].spec))}
    assert first[0].work > 0
    done = next(job for job in first if job.spec["seed"] == 0)
    end(store, done.trial_id, "completed")
    jobs.done(done.trial_id, Outcome("completed", None, 1.0))
    (second,) = jobs.ready()
    assert (second.stage, second.spec["seed"], second.spec["arm"]["kind"]) == (1, 0, "post_hoc")
    assert second.work < first[0].work


def test_what_a_fork_need_not_train_is_no_work(store):
    late = InTrainingSpec(kind="in_training", tau=0.1, start=0.5, end=0.75, count=1)
    plan = Plan(suite_of(full=FullSpec(kind="full"), late=late), store)
    alone = {job.label: job.work for job in PlanJobs(plan, fork=False).ready()}
    jobs = PlanJobs(plan)
    full, fork = (jobs._job(row) for row in plan.rows)
    assert full.work == alone[full.label]
    assert fork.work == pytest.approx(0.25 * alone[fork.label])
