"""A trial that another process has taken over: it ends once, with the bits of one left alone."""

from __future__ import annotations

import json

import pytest

from harness.models import load
from harness.records.collect import gather
from harness.records.lease import Busy, ClaimLost
from harness.records.verify import verify
from harness.training.trial import Execution, Interrupted, run_trial

from .trials import TABLES, record_of, table_of, trial_spec

SPEC = trial_spec({"kind": "in_training"})


@pytest.fixture
def zombie(store, monkeypatch):
    """Runs a trial to a boundary, where another runs it to its end; then goes on."""
    monkeypatch.setenv("HARNESS_CHECKPOINT_SECONDS", "0")

    def run(rival, boundary=3):
        passed = []

        def progress(_):
            passed.append(1)
            if len(passed) == boundary:
                rival()

        return run_trial(SPEC, store, Execution(progress=progress, owner="zombie"))

    return run


def take_over(store, **options):
    return run_trial(SPEC, store, Execution(owner="rival", instead_of="zombie", **options))


def assert_same_trial(one, two):
    for name in TABLES:
        assert table_of(one, SPEC.trial_id, name) == table_of(two, SPEC.trial_id, name)
    weights, others = (store.trial(SPEC.trial_id).load_model()[0] for store in (one, two))
    assert weights.keys() == others.keys()
    assert all(weights[name].equal(others[name]) for name in weights)
    results = [record_of(store.trial(SPEC.trial_id).result()) for store in (one, two)]
    assert results[0] == results[1]


def test_the_zombie_stops_and_the_trial_ends_once(zombie, store, undisturbed_one):
    with pytest.raises(ClaimLost):
        zombie(lambda: take_over(store))
    trial = store.trial(SPEC.trial_id)
    assert trial.result()["epoch"] == 2
    assert trial.result()["record"]["restarts"] == 1  # it went on from the zombie's checkpoint
    assert_same_trial(store, undisturbed_one)
    # What the zombie has left goes with the next that tidies up.
    trial.tidy()
    assert sorted(one.name for one in trial.path.iterdir()) == [
        "epochs", "manifest.json", "result.json", "spec.json",
    ]  # fmt: skip
    assert [one.name for one in (trial.path / "epochs").iterdir()] == ["2"]


def test_a_zombie_that_wakes_at_its_end_ends_nothing(store, monkeypatch, undisturbed_one):
    """It writes its tables, then finds that the result is there."""
    folder = type(store.trial(SPEC.trial_id))
    finish = folder.finish

    def frozen_before_its_result(self, tables, result):
        if self._lease is not None and self._lease.claim.owner == "zombie":
            take_over(store)
        return finish(self, tables, result)

    monkeypatch.setattr(folder, "finish", frozen_before_its_result)
    with pytest.raises(ClaimLost):
        run_trial(SPEC, store, Execution(owner="zombie"))
    assert store.trial(SPEC.trial_id).result()["epoch"] == 2
    assert_same_trial(store, undisturbed_one)


def test_of_two_that_are_sure_of_their_claim_one_ends_the_trial(store, monkeypatch):
    """Frozen between its last look at its claim and the result itself: the first result stays."""
    from harness.records.lease import Lease

    confirm = Lease.confirm

    def frozen_after(self):
        confirm(self)
        if self.claim.owner == "zombie":
            take_over(store)

    monkeypatch.setattr(Lease, "confirm", frozen_after)
    with pytest.raises(ClaimLost, match="was ended by another process"):
        run_trial(SPEC, store, Execution(owner="zombie"))
    result = store.trial(SPEC.trial_id).result()
    assert result["epoch"] == 2
    assert verify(store, [SPEC.trial_id])[0] == []


def test_everything_reads_a_trial_that_was_taken_over(zombie, store):
    with pytest.raises(Busy):
        zombie(lambda: take_over(store))
    trial = store.trial(SPEC.trial_id)
    assert verify(store, [SPEC.trial_id]) == (
        [], "7 files compared with their checksums, 0 damaged"
    )  # fmt: skip
    assert load(trial.path).state_dims == trial.result()["record"]["state_dims"]
    entry = {"trial_id": SPEC.trial_id, "label": "x", "role": "x", "task": "digits", "seed": 0}
    assert gather(store, {"trials": [entry]}).tables["curves"].num_rows
    path = trial.path / "epochs" / "2" / "curves.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert "curves.parquet is not as it was written" in verify(store, [SPEC.trial_id])[0][0]


def test_the_one_that_takes_over_may_be_stopped_and_goes_on(zombie, store, undisturbed_one):
    def stopped():
        with pytest.raises(Interrupted):
            take_over(store, stop=lambda: True)

    with pytest.raises(ClaimLost):
        zombie(stopped)
    trial = store.trial(SPEC.trial_id)
    assert not trial.ended()
    assert run_trial(SPEC, store)["epoch"] == 2  # it let go, so its place is free
    assert_same_trial(store, undisturbed_one)
    assert not (trial.path / "epochs" / "2" / "checkpoint").exists()


def test_a_retry_forgets_every_place(zombie, store):
    with pytest.raises(ClaimLost):
        zombie(lambda: take_over(store))
    trial = store.trial(SPEC.trial_id)
    with trial.claim():
        trial.wipe()
    assert [one.name for one in trial.path.iterdir()] == ["spec.json"]
    assert store.ended_trials() == []
    # The zombie may still write to its own place, the first: that number is not given again.
    assert run_trial(SPEC, store)["epoch"] == 2


def test_a_trial_left_alone_says_nothing_of_epochs(undisturbed_one):
    path = undisturbed_one.trial(SPEC.trial_id).path
    assert "epoch" not in json.loads((path / "result.json").read_text())
    assert not (path / "epochs").exists()


@pytest.fixture(scope="module")
def undisturbed_one(tmp_path_factory):
    from harness.records.store import Store

    store = Store(tmp_path_factory.mktemp("undisturbed"))
    run_trial(SPEC, store)
    return store
