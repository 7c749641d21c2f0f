"""Training that survives: killed at any moment, a trial ends as if it had never been."""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import time

import pytest

from harness.training import loop
from harness.training import trial as trial_module
from harness.training.trial import Execution, Interrupted, run_trial

from .trials import assert_same, copy_source, run_in_child, trial_spec, weights_of


@pytest.fixture(scope="module")
def processes():
    """Children come from a server that has imported everything, so that a start is cheap."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["harness.training.trial", "torch._dynamo"])
    return context


def start(processes, spec, store):
    """A process running the trial, and a semaphore that it releases at every boundary."""
    passed = processes.Semaphore(0)
    child = processes.Process(
        target=run_in_child, args=(spec.model_dump_json(), store.root, passed)
    )
    child.start()
    return child, passed


def kill_within(child, passed, seconds):
    """Kill a process so many seconds after its first boundary, or three boundaries further on.

    One that resumes behind the last boundary passes none: it is left to end.
    """
    deadline = time.monotonic() + 60
    while not passed.acquire(timeout=0.05):
        assert time.monotonic() < deadline, "the trial never began"
        if not child.is_alive() and not passed.acquire(timeout=0):
            assert child.exitcode == 0
            return
    deadline = time.monotonic() + seconds
    for _ in range(3):
        if not passed.acquire(timeout=max(0.0, deadline - time.monotonic())):
            break
    child.kill()
    child.join()


@pytest.mark.parametrize("arm", ["in_training", "post_hoc"])
def test_killed_at_random_moments_it_ends_bit_identical(arm, processes, undisturbed, store, specs):
    spec = specs[arm]
    copy_source(spec, undisturbed, store)
    record = undisturbed.trial(spec.trial_id).result()["record"]
    longest = 0.2 * (record["seconds_total"] - record["seconds_setup"])
    random_moment = random.Random(arm)
    trial = store.trial(spec.trial_id)
    killed = 0
    while killed < 6 and not trial.ended():
        child, passed = start(processes, spec, store)
        kill_within(child, passed, random_moment.uniform(0.0, longest))
        killed += child.exitcode == -signal.SIGKILL
    assert killed >= 2
    child, _ = start(processes, spec, store)
    child.join(60)
    assert child.exitcode == 0
    assert trial.result()["record"]["restarts"] >= 1
    assert not (trial.path / "checkpoint").exists()
    assert_same(store, undisturbed, spec.trial_id)


def one_boundary_further(spec, store):
    """The result if the trial ends; None if it was stopped at the second boundary from here."""
    calls = iter([False, True])
    try:
        return run_trial(spec, store, Execution(stop=lambda: next(calls)))
    except Interrupted:
        return None


@pytest.mark.parametrize(
    "arm",
    [
        "full",
        "in_training",
        "post_hoc",
        "residualised",
        "pragmatic",
        "distill",
        "hankel_regularized",
        "published",
        "in_training by task",
        "in_training in order",
        "in_training by loss",
        "refitted",
    ],
)
def test_stopped_and_resumed_at_every_boundary(arm, undisturbed, store, specs):
    spec = specs[arm]
    copy_source(spec, undisturbed, store)
    stops = 0
    while (result := one_boundary_further(spec, store)) is None:
        stops += 1
    assert stops >= 2
    assert result["record"]["restarts"] == stops
    assert result["record"]["seconds_lost"] > 0.0
    assert_same(store, undisturbed, spec.trial_id)


def test_a_checkpoint_is_only_written_when_it_is_time(store, specs, monkeypatch):
    writes = []
    spec = specs["full"]
    monkeypatch.setattr(
        "harness.records.store.TrialDir.save_checkpoint", lambda *_: writes.append(1)
    )
    run_trial(spec, store, Execution(checkpoint_seconds=1e6))
    assert not writes


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "inf", ""])
def test_checkpoint_seconds_must_be_a_number_of_seconds(text, store, specs, monkeypatch):
    monkeypatch.setenv("HARNESS_CHECKPOINT_SECONDS", text)
    with pytest.raises(ValueError, match="HARNESS_CHECKPOINT_SECONDS must be"):
        run_trial(specs["full"], store)
    assert store.trials() == []


def test_a_resume_with_another_thread_count_is_refused(store, specs, monkeypatch):
    spec = specs["full"]
    with pytest.raises(Interrupted, match=spec.trial_id):
        run_trial(spec, store, Execution(stop=lambda: True))
    assert not store.trial(spec.trial_id).ended()
    before = (store.trial(spec.trial_id).path / "checkpoint/state.safetensors").read_bytes()
    monkeypatch.setenv("HARNESS_THREADS", "2")
    with pytest.raises(ValueError, match="begun with threads 1 and cannot go on with 2") as refused:
        run_trial(spec, store)
    assert "\n" not in str(refused.value)
    after = (store.trial(spec.trial_id).path / "checkpoint/state.safetensors").read_bytes()
    assert before == after
    monkeypatch.setenv("HARNESS_THREADS", "1")
    assert run_trial(spec, store)["status"] == "completed"


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5"])
def test_a_thread_count_must_be_a_whole_number(text, store, specs, monkeypatch):
    monkeypatch.setenv("HARNESS_THREADS", text)
    with pytest.raises(ValueError, match="HARNESS_THREADS must be a whole number"):
        run_trial(specs["full"], store)
    assert store.trials() == []


def stopped(spec, store):
    """The folder of a trial that was stopped before its first step."""
    with pytest.raises(Interrupted):
        run_trial(spec, store, Execution(stop=lambda: True))
    return store.trial(spec.trial_id)


def rewrite(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


CHANGES = {
    "data_fingerprint": "other",
    "numpy_version": "1.0.0",
    "backends": [{"name": "reference", "reason": "asked for by name"}] * 2,
}


@pytest.mark.parametrize("key", CHANGES)
def test_a_resume_on_other_data_numpy_or_backends_is_refused(key, store):
    spec = trial_spec({"kind": "full"}, training={"steps": 2})
    path = stopped(spec, store).path / "manifest.json"
    rewrite(path, lambda manifest: manifest.update({key: CHANGES[key]}))
    with pytest.raises(ValueError, match=f"begun with {key} .* and cannot go on with ") as refused:
        run_trial(spec, store)
    assert "\n" not in str(refused.value)
    rewrite(path, lambda manifest: manifest.pop(key))  # an older one says nothing of it
    assert run_trial(spec, store)["status"] == "completed"


def test_why_a_backend_was_chosen_may_be_said_otherwise(store):
    spec = trial_spec({"kind": "full"}, training={"steps": 2})

    def reword(manifest):
        for choice in manifest["backends"]:
            choice["reason"] = "because"

    rewrite(stopped(spec, store).path / "manifest.json", reword)
    assert run_trial(spec, store)["status"] == "completed"


@pytest.mark.parametrize("wiped", [False, True])
def test_a_spec_from_before_a_field_with_a_default_is_the_same_trial(wiped, store):
    spec = trial_spec({"kind": "in_training"}, training={"steps": 40})
    folder = stopped(spec, store)

    def age(content):
        del content["model"]["backend"], content["arm"]["gate"], content["spec_version"]

    rewrite(folder.path / "spec.json", age)
    before = (folder.path / "spec.json").read_bytes()
    if wiped:
        folder.wipe()
    assert run_trial(spec, store)["status"] == "completed"
    assert (folder.path / "spec.json").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "says"),
    [({"seed": 9}, "holds the record of another spec"), ({"nosuch": 1}, "cannot be read: nosuch")],
)
def test_a_folder_that_holds_another_spec_is_refused(change, says, store):
    spec = trial_spec({"kind": "full"}, training={"steps": 2})
    rewrite(stopped(spec, store).path / "spec.json", lambda content: content.update(change))
    with pytest.raises(ValueError, match=says) as refused:
        run_trial(spec, store)
    assert "\n" not in str(refused.value)


class Killed(BaseException):
    """A kill that leaves this process alive."""


def killed_after(boundaries, spec, store, pause, checkpoint_seconds=1e6):
    """Run until that boundary, each of which takes `pause` seconds more on the training clock: so
    many that no load of the machine comes near them."""
    left = iter(range(boundaries))

    def advance(run, state):
        if next(left, None) is None:
            raise Killed
        run.clocks.seconds["train"] += pause
        return loop_advance(run, state)

    loop_advance = loop.advance
    setting = Execution(checkpoint_seconds=checkpoint_seconds)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "advance", advance)
        patch.setattr(trial_module, "NOTE_EVERY", 0.0)
        with pytest.raises(Killed):
            run_trial(spec, store, setting)


def test_work_that_is_done_again_counts_as_lost(store):
    spec = trial_spec({"kind": "full"}, training={"steps": 40, "evaluate_every": 10})
    killed_after(2, spec, store, 100.0)  # before its first checkpoint
    assert not (store.trial(spec.trial_id).path / "checkpoint/state.safetensors").exists()
    calls = iter([False, True])
    with pytest.raises(Interrupted):
        run_trial(spec, store, Execution(stop=lambda: next(calls)))
    killed_after(2, spec, store, 100.0)  # twice from the same checkpoint
    killed_after(1, spec, store, 100.0)
    record = run_trial(spec, store)["record"]
    assert record["restarts"] == 4
    assert 500.0 <= record["seconds_lost"] < 600.0
    assert record["seconds_spent"] == record["seconds_total"] + record["seconds_lost"]
    assert record["seconds_train"] < 100.0  # none of the work that was done twice


def test_nothing_is_lost_with_a_checkpoint_at_every_boundary(store):
    spec = trial_spec({"kind": "full"}, training={"steps": 40, "evaluate_every": 10})
    killed_after(2, spec, store, 100.0, checkpoint_seconds=0.0)
    record = run_trial(spec, store)["record"]
    assert record["seconds_lost"] < 100.0
    assert record["seconds_train"] >= 200.0


def test_a_note_of_what_was_spent_that_is_damaged_is_none(store):
    spec = trial_spec({"kind": "full"}, training={"steps": 2})
    folder = stopped(spec, store)
    (folder.path / "checkpoint" / "spent.json").write_text("{")
    assert run_trial(spec, store)["status"] == "completed"


def test_an_ended_trial_is_returned_as_it_stands(undisturbed, specs, monkeypatch):
    spec = specs["full"]
    folder = undisturbed.trial(spec.trial_id)
    before = {p.name: p.stat().st_mtime_ns for p in folder.path.iterdir()}
    monkeypatch.setattr("harness.tasks.build", lambda *_: pytest.fail("it was run again"))
    monkeypatch.setenv("HARNESS_THREADS", "2")  # no matter any more
    assert run_trial(spec, undisturbed) == folder.result()
    assert before == {p.name: p.stat().st_mtime_ns for p in folder.path.iterdir()}


def test_a_small_trial_with_sizes_is_the_full_trial_of_those_sizes(undisturbed, specs):
    small = trial_spec(
        {"kind": "small", "state_dims": [16, 12]}, model={"state_dim": 64, "blocks": 2}
    )
    assert run_trial(small, undisturbed) == undisturbed.trial(specs["full"].trial_id).result()


def test_the_seed_alone_decides(undisturbed, store, specs):
    run_trial(specs["full"], store)
    assert_same(store, undisturbed, specs["full"].trial_id)
    other = trial_spec({"kind": "full"}, seed=1)
    run_trial(other, store)
    assert weights_of(store, other.trial_id) != weights_of(store, specs["full"].trial_id)
