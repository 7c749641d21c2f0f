"""A suite whose store is a bucket of a real S3 server: the same results, and no secret in it."""

import os
import secrets

import pytest

from harness.cli.app import execute
from harness.records.store import Store
from harness.suite.specs import TrialSpec
from harness.training.forking import spec_of
from harness.training.trial import Execution, Interrupted, run_trial
from tests.training.trials import record_of, table_of

from .test_end_to_end import harness


@pytest.fixture
def bucket(moto):
    return f"{moto}/{secrets.token_hex(4)}"


def test_a_run_in_a_bucket_gives_what_a_run_in_a_folder_does(here, bucket):
    done = harness(here, "run", "tiny.py", "--store", bucket, "--no-fork")
    assert done.returncode == 0, done.stderr
    assert "digits: accuracy" in done.stdout
    assert f"{bucket}/suites/tiny/index.html" in done.stderr
    assert "mirror could not" not in done.stderr
    assert [path.name for path in here.iterdir() if path.suffix != ".py"] == []

    store, other = Store(bucket), Store(here / "folder")
    specs = {one: spec_of(store.trial(one).spec()) for one in store.ended_trials()}
    assert len(specs) == 8
    for trial_id, spec in sorted(specs.items(), key=lambda item: item[1].source() is not None):
        result = run_trial(spec, other)
        assert record_of(store.trial(trial_id).result()) == record_of(result)
        for table in ("curves", "truncations", "spectra"):
            assert table_of(store, trial_id, table) == table_of(other, trial_id, table)
        weights, others = (s.trial(trial_id).load_model()[0] for s in (store, other))
        assert all(weights[name].equal(others[name]) for name in weights)

    again = harness(here, "run", "tiny.py", "--store", bucket)
    assert again.returncode == 0
    assert "nothing was missing" in again.stderr
    verified = harness(here, "report", "tiny", "--store", bucket, "--verify")
    assert verified.returncode == 0
    assert "56 files compared with their checksums, 0 damaged" in verified.stderr
    assert_no_secret(store, done, again, verified)


def assert_no_secret(store, *processes):
    secret = os.environ["AWS_SECRET_ACCESS_KEY"]
    for entry in store.storage.list():
        assert secret.encode() not in store.storage.read(entry.key).data, entry.key
    for process in processes:
        assert secret not in process.stdout + process.stderr


def test_a_trial_in_a_bucket_is_resumed(here, bucket, monkeypatch):
    monkeypatch.setenv("HARNESS_CHECKPOINT_SECONDS", "0")
    spec = TrialSpec(
        task={"name": "digits"},
        model={"blocks": 1, "width": 4, "state_dim": 8},
        training={"steps": 8, "batch_size": 20, "evaluate_every": 2},
        arm={"kind": "in_training", "tau": 0.3, "end": 0.5, "count": 2},
    )
    store = Store(bucket)
    with pytest.raises(Interrupted):
        run_trial(spec, store, Execution(stop=lambda: True))
    trial = store.trial(spec.trial_id)
    assert trial.load_checkpoint() is not None
    result = run_trial(spec, store)
    assert result["record"]["restarts"] == 1
    assert record_of(result) == record_of(run_trial(spec, Store(here / "folder")))
    assert trial.load_checkpoint() is None
    trial.tidy()
    names = {entry.key.rpartition("/")[2] for entry in store.storage.list("trials/")}
    assert names == {
        "spec.json", "manifest.json", "result.json", "model.json", "model.safetensors",
        "curves.parquet", "truncations.parquet", "spectra.parquet",
    }  # fmt: skip


def test_what_a_process_left_in_a_bucket_is_tidied(bucket):
    store = Store(bucket)
    store.storage.write("trials/ab/checkpoint/state.safetensors", b"1")
    store.trial("ab").tidy()  # it has not ended
    assert store.storage.exists("trials/ab/checkpoint/state.safetensors")
    store.storage.write("trials/ab/result.json", b"{}")
    store.trial("ab").tidy()  # damaged: nothing of it is touched
    assert store.storage.exists("trials/ab/checkpoint/state.safetensors")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("s3://nobody/x", "cannot use s3://nobody/x as a store: list is refused: The specified"),
        ("s3://", "a store's address is s3://BUCKET/PREFIX, not s3://"),
        ("s4://records", "a store is a folder or one of s3://, gs://, az://"),
    ],
)
@pytest.mark.parametrize("verb", ["run", "plan", "report", "table"])
def test_a_bucket_that_cannot_be_is_refused(moto, here, capsys, verb, address, said):
    assert execute([verb, "tiny.py", "--store", address]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


def test_what_needs_a_folder_says_so(moto, here, capsys):
    assert execute(["ui", "--store", moto]) == 2
    assert "s3://records is no folder, so it has no mirror" in capsys.readouterr().err
