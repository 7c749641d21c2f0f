"""What a plan takes as missing, and how many trials it says there are."""

import pytest

from harness import run
from harness.estimate import summary
from harness.listing import plan_lines
from harness.plan import Plan
from harness.records.store import Store
from harness.suite import Comparison, FullSpec, InTrainingSpec, SmallSpec, Suite, TaskSpec

SHRINK = InTrainingSpec(kind="in_training")


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / "store")


def suite_of(**arms):
    comparison = Comparison(task=TaskSpec(name="digits"), arms=arms)
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
    monkeypatch.setattr(run, "publish", lambda *_: 0.0)
    wishes = run.Wishes(only="digits/shrunk", retry=("failed",))
    account = run.run_suite(suite, store, "harness run", wishes)
    assert handed_out == [shrunk]
    assert store.ended_trials() == [full]
    assert account.unfinished == ["missing digits/shrunk, seed 0"]


def test_rows_that_share_a_trial_are_counted_once(store):
    small = SmallSpec(kind="small", match="seed", to=SHRINK)
    suite = suite_of(full=FullSpec(kind="full"), shrunk=SHRINK, small=small)
    first = plan_lines(summary(Plan(suite, store)))[0]
    assert first.endswith(": 3 trials, 3 missing")  # the size of `small` is open
    shrunk = Plan(suite, store).rows[1].spec.trial_id
    numbers = {"train_flops": 1.0, "seconds_total": 1.0, "device": "cpu", "task": "digits"}
    end(store, shrunk, "completed", state_dims=[64, 64], **numbers)
    first = plan_lines(summary(Plan(suite, store)))[0]
    assert first.endswith(": 3 rows of trials (2 distinct), 2 missing")
