"""The order in which a trial's files appear, what a checkpoint promises, and the lock."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
import torch

from harness.records import store as store_module
from harness.records.lease import Busy
from harness.records.store import Store


def test_bad_store_paths_are_refused_and_nothing_is_written(tmp_path):
    (tmp_path / "file").write_text("x")
    for bad in (tmp_path / "file", tmp_path / "file" / "below", "/proc/nowhere/store", " "):
        with pytest.raises(ValueError, match=r"store") as caught:
            Store.open(bad)
        assert "\n" not in str(caught.value)
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("file:///tmp/x", "a store is a folder or one of s3://, gs://, az://"),
        ("S3://me:secret@host/b", "a store is a folder or one of"),
        ("az+x://c/d", "a store is a folder or one of"),
        ("s3://me:secret@host/b", "a store's address is s3://BUCKET/PREFIX, not"),
        ("s3://", "a store's address is s3://BUCKET/PREFIX, not"),
        ("s3://bucket/x?key=1", "credentials come from the environment"),
    ],
)
def test_a_wrong_address_is_refused_and_no_folder_is_made(tmp_path, monkeypatch, address, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        Store.open(address)
    assert "secret" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_unwritable_store_is_refused(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(store_module.tempfile, "TemporaryFile", refuse)  # tests may run as root
    with pytest.raises(ValueError, match=r"cannot write to the store .*: Permission denied"):
        Store.open(tmp_path)


def test_opening_to_read_writes_nothing(tmp_path):
    store = Store.open(tmp_path / "none", create=False)
    assert store.ended_trials() == []
    assert store.trial("ab").result() is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden"])
def test_names_cannot_leave_the_store(store, name):
    with pytest.raises(ValueError, match="letters, digits"):
        store.trial(name)
    with pytest.raises(ValueError, match="letters, digits"):
        store.suite(name)


def test_result_is_written_last(store, ended, monkeypatch):
    order = []

    def noting(do):
        def note(source, target):
            order.append(os.path.basename(target))
            do(source, target)

        return note

    for name in ("replace", "link"):
        monkeypatch.setattr(os, name, noting(getattr(os, name)))
    trial = ended(store, "ab")
    assert order[:2] == ["spec.json", "manifest.json"]
    assert sorted(order[2:-1]) == ["curves.parquet", "spectra.parquet", "truncations.parquet"]
    assert order[-1] == "result.json"
    assert store.ended_trials() == ["ab"]
    assert trial.table("curves").num_rows == 3


def test_a_result_that_does_not_fit_leaves_nothing(store, spec):
    trial = store.trial("ab")
    trial.begin(spec, {})
    good = {"trial_id": "ab", "status": "completed"}
    cases = [
        ({"curves": [{"typo": 1}]}, {"record": good}, "no column typo"),
        ({"curve": []}, {"record": good}, "no table curve"),
        ({}, {"record": {**good, "trial_id": "cd"}}, "no record"),
        ({}, {"record": {**good, "typo": 1}}, "no column typo"),
        ({}, {"record": {**good, "test_metric": float("nan")}}, "not JSON compliant"),
    ]
    for tables, result, message in cases:
        with pytest.raises(ValueError, match=message):
            trial.finish(tables, result)
    assert sorted(one.name for one in trial.path.iterdir()) == ["manifest.json", "spec.json"]


def test_begin_keeps_the_first_manifest_and_refuses_another_spec(store, spec):
    trial = store.trial("ab")
    trial.begin(spec, {"threads": 1})
    trial.begin(spec, {"threads": 2})
    assert trial.manifest() == {"threads": 1}
    with pytest.raises(ValueError, match="another spec"):
        trial.begin({**spec, "seed": 9}, {})


def test_checkpoint_comes_back_bit_for_bit(store):
    trial = store.trial("ab")
    assert trial.load_checkpoint() is None
    base = torch.arange(6, dtype=torch.float64).reshape(2, 3) / 7
    tensors = {
        "t": base.T,  # not contiguous
        "shared": base,
        "z": torch.tensor([1 + 2j, -0.0], dtype=torch.complex64),
        "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 4),
    }
    state = {"step": 7, "best": float("-inf"), "third": 1 / 3, "nested": [{"a": None}]}
    trial.save_checkpoint(tensors, state)
    loaded, back = trial.load_checkpoint()
    assert back == state
    assert set(loaded) == set(tensors)
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)
    trial.drop_checkpoint()
    assert trial.load_checkpoint() is None
    assert not (trial.path / "checkpoint").exists()


def test_a_type_that_cannot_be_stored_is_named(store):
    with pytest.raises(ValueError, match=r"cannot hold torch\.complex128"):
        store.trial("ab").save_checkpoint({"z": torch.zeros(1, dtype=torch.complex128)}, {})


def test_a_killed_save_leaves_the_checkpoint_before(store):
    trial = store.trial("ab")
    trial.save_checkpoint({"w": torch.ones(3)}, {"step": 1})
    script = (
        "import os, signal, sys, torch\n"
        "from harness.records.store import Store\n"
        "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "with Store(sys.argv[1]).trial('ab').claim() as trial:\n"
        "    trial.save_checkpoint({'w': torch.zeros(3)}, {'step': 2})\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(store.root)], check=False)
    assert done.returncode == -signal.SIGKILL
    tensors, state = trial.load_checkpoint()
    assert state == {"step": 1}
    assert torch.equal(tensors["w"], torch.ones(3))
    with trial.claim():  # clears what the killed process left
        assert [one.name for one in (trial.path / "checkpoint").iterdir()] == ["state.safetensors"]


@pytest.mark.parametrize("keep", [0, 5, 60, -1])
def test_a_damaged_checkpoint_is_refused_in_one_line(store, keep):
    trial = store.trial("ab")
    trial.save_checkpoint({"w": torch.ones(30)}, {"step": 1})
    path = trial.path / "checkpoint" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(
        ValueError, match=r"state\.safetensors is damaged: .*; remove \S+"
    ) as caught:
        trial.load_checkpoint()
    assert "\n" not in str(caught.value)


def test_finish_and_wipe(store, ended, spec):
    store.trial("ab").save_checkpoint({"w": torch.ones(1)}, {})
    trial = ended(store, "ab")
    assert trial.load_checkpoint() is None
    trial.save_model({"w": torch.ones(2)}, {"model": 1})
    trial.write_failure({"error": "lost node"})
    trial.wipe()
    assert [one.name for one in trial.path.iterdir()] == ["spec.json"]
    assert trial.spec() == spec
    assert store.ended_trials() == []
    assert store.trials() == ["ab"]


def test_models_come_back(store):
    trial = store.trial("ab")
    with pytest.raises(FileNotFoundError, match="no stored model"):
        trial.load_model()
    trial.save_model({"w": torch.full((2,), 0.1)}, {"state_dims": [3]})
    tensors, description = trial.load_model()
    assert torch.equal(tensors["w"], torch.full((2,), 0.1))
    assert description == {"state_dims": [3]}


def test_a_damaged_result_is_named(store, ended):
    trial = ended(store, "ab")
    (trial.path / "result.json").write_text(json.dumps({"status": 1})[:-3])
    with pytest.raises(ValueError, match=r"/ab is damaged \(result\.json is not valid JSON"):
        trial.result()


HOLD = """
import sys, time
from harness.records.store import Store
with Store(sys.argv[1]).trial("ab").claim():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_kept_out_until_the_first_dies(store):
    trial = store.trial("ab")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(store.root)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Busy, match=f"trial ab is being run by process {holder.pid} on"):  # noqa: SIM117
            with trial.claim():
                pass
    finally:
        holder.kill()
        holder.communicate()
    with trial.claim(), pytest.raises(Busy):
        trial.claim().__enter__()  # nor twice in one process
    assert not trial.path.exists()  # the lock is no part of the record
