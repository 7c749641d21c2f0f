"""What was not written as it stands there is noticed, told in one line, and costs nothing else."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from harness.records import schemas
from harness.records.collect import collect
from harness.records.sealed import read_sealed, write_sealed
from harness.records.states import Damaged
from harness.records.storage import Folder
from harness.records.store import Store
from harness.records.verify import verify
from harness.suite import TrialSpec

from .conftest import end
from .test_collect import entry

FILES = (
    "spec.json", "manifest.json", "result.json", "model.json", "model.safetensors",
    "curves.parquet", "truncations.parquet", "spectra.parquet",
)  # fmt: skip
READ_BY_REPORT = [name for name in FILES if not name.startswith(("manifest", "model"))]


def delete(path):
    path.unlink()


def folder(path):
    path.unlink()
    path.mkdir()


def links(target):
    def link(path):
        path.unlink()
        path.symlink_to(target)

    return link


def bytes_of(change):
    return lambda path: path.write_bytes(change(path.read_bytes()))


def flip(data, place=None):
    place = len(data) // 2 if place is None else place
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def parquet_of(metadata):
    """A parquet that is whole, but not ours."""

    def write(path):
        pq.write_table(pa.table({"x": [1]}).replace_schema_metadata(metadata), path)

    return write


DAMAGES = {
    "delete": delete,
    "empty": bytes_of(lambda data: b""),
    "half": bytes_of(lambda data: data[: len(data) // 2]),
    "zero": bytes_of(lambda data: bytes(len(data))),
    "flip": bytes_of(flip),
    "garbage": bytes_of(lambda data: os.urandom(len(data))),
    "not utf-8": bytes_of(lambda data: b'{"a": "\xff"}'),
    "braces": bytes_of(lambda data: b"{}"),
    "list": bytes_of(lambda data: b"[]"),
    "brackets": bytes_of(lambda data: b"[" * 100_000),
    "NaN": bytes_of(lambda data: b'{"status": "completed", "record": {"test_metric": NaN}}'),
    "no version": parquet_of({}),
    "another version": parquet_of({"table": "curves", "schema_version": "one"}),
    "a newer version": parquet_of({"table": "curves", "schema_version": "99"}),
    "folder": folder,
    "dangling link": links("nowhere"),
    "looping link": links("result.json"),
}


@pytest.fixture
def two(store):
    """A store with two whole trials of one row, with models, and their plan."""
    for seed, trial_id in enumerate(("aa", "bb")):
        trial = store.trial(trial_id)
        trial.save_model({"w": torch.ones(3)}, {"format": 1})
        end(store, trial_id, seed)
    plan = {"trials": [entry("aa"), {**entry("bb"), "seed": 1}]}
    assert collect(store, "demo", plan) == []
    return store, plan


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_every_damage_is_named_and_the_rest_is_kept(two, name, damage):
    """One line that names folder, file and way out; a row that says what is not in it."""
    store, plan = two
    trial = store.trial("aa")
    DAMAGES[damage](trial.path / name)
    lines, said = verify(store, ["aa", "bb"])
    assert len(lines) == 1
    assert f"{store.root}/trials/aa is damaged ({name}" in lines[0]
    assert lines[0].endswith("remove that folder to run the trial again")
    assert "\n" not in lines[0]
    assert len(lines[0]) < 500
    assert "1 damaged" in said
    if name in READ_BY_REPORT:
        assert collect(store, "demo", plan) == lines
        assert statuses(store) == {"aa": "damaged", "bb": "completed"}
    else:
        assert collect(store, "demo", plan) == []


def statuses(store):
    rows = schemas.read_table(store.suite("demo").folder / "trials.parquet", "trials").to_pylist()
    assert {row["model"] for row in rows} == {"lru"}
    return {row["trial_id"]: row["status"] for row in rows}


@pytest.mark.parametrize("name", FILES)
def test_a_flip_of_any_byte_is_noticed(two, name):
    store, _ = two
    path = store.trial("aa").path / name
    whole = path.read_bytes()
    for place in range(0, len(whole), 1 if name == "result.json" else 7):
        path.write_bytes(flip(whole, place))
        assert store.trial("aa").damage(), place
    path.write_bytes(whole)
    assert store.trial("aa").damage() == []


def test_a_flip_of_any_byte_of_a_checkpoint_or_a_kept_state_is_noticed(store):
    trial = store.trial("aa")
    tensors, state = {"w": torch.arange(5.0)}, {"step": 7, "value": float("nan")}
    trial.save_checkpoint(tensors, state)
    trial.save_fork(3, tensors, state)
    for name, load, way_out in (
        ("checkpoint/state.safetensors", trial.load_checkpoint, "to start the trial from step 0"),
        ("forks/3.safetensors", lambda: trial.load_fork(3), "forks from step 0"),
    ):
        path = trial.path / name
        whole = path.read_bytes()
        for place in range(len(whole)):
            path.write_bytes(flip(whole, place))
            with pytest.raises(Damaged, match=f"remove {path}.* {way_out}$"):
                load()
        for change in (delete, folder):
            path.write_bytes(whole)
            change(path)
            if change is delete:
                assert load() is None
            else:
                with pytest.raises(Damaged, match="is a folder; remove"):
                    load()


def test_names_of_others_among_the_kept_states_are_passed_over(store):
    trial = store.trial("aa")
    trial.save_fork(3, {}, {})
    (trial.path / "forks" / "notes.safetensors").touch()
    assert trial.forks() == [3]


@pytest.mark.parametrize("noted", ["{", "[]", '{"seconds": 1e999, "restarts": 0}', '{"a": 1}'])
def test_a_note_that_is_no_number_is_none(store, noted):
    trial = store.trial("aa")
    trial.note_spent(1.5, 2)
    assert trial.spent() == (1.5, 2)
    (trial.path / "checkpoint" / "spent.json").write_text(noted)
    assert trial.spent() is None


# Stores from before there were checksums

OLD = Path(__file__).parent / "fixtures" / "trial_without_checksums"


@pytest.fixture
def old(store):
    """A trial of 4 steps on digits, as the code before checksums left it."""
    trial_id = TrialSpec.model_validate_json((OLD / "spec.json").read_text()).trial_id
    trial = store.trial(trial_id)
    shutil.copytree(OLD, trial.path)
    return trial


def old_plan(trial):
    return {"trials": [entry(trial.trial_id)]}


def test_an_old_trial_is_read_as_before(store, old):
    assert collect(store, "demo", old_plan(old)) == []
    assert statuses(store) == {old.trial_id: "completed"}
    weights, description = old.load_model()
    assert weights
    assert description["state_dims"] == [4]
    lines, said = verify(store, [old.trial_id])
    assert lines == []
    assert (
        said
        == "0 files compared with their checksums, 0 damaged; 1 trials are older than checksums"
    )


def test_an_old_checkpoint_is_read_as_before(store):
    trial = store.trial("ab")
    path = trial.path / "checkpoint" / "state.safetensors"
    path.parent.mkdir(parents=True)
    shutil.copy(OLD.parent / "checkpoint_without_checksum.safetensors", path)
    tensors, state = trial.load_checkpoint()
    assert torch.equal(tensors["w"], torch.arange(3.0))
    assert state["step"] == 7


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda spec: spec.clear(), "spec.json is no spec of this version, and has no checksum"),
        (lambda spec: spec.update(seed=7), "spec.json is that of trial "),
        (lambda spec: spec.update(nosuch=1), "spec.json is no spec of this version"),
    ],
    ids=["braces", "another", "unknown field"],
)
def test_an_old_trial_must_have_the_spec_that_names_it(store, old, change, says):
    path = old.path / "spec.json"
    spec = json.loads(path.read_text())
    change(spec)
    path.write_text(json.dumps(spec))
    assert says in collect(store, "demo", old_plan(old))[0]


def test_a_field_that_came_later_may_be_missing_in_an_old_spec(store, old):
    path = old.path / "spec.json"
    spec = json.loads(path.read_text())
    del spec["spec_version"], spec["model"]["backend"]
    path.write_text(json.dumps(spec))
    assert collect(store, "demo", old_plan(old)) == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({}, "does not say how the trial ended"),
        ({"status": "ended", "record": {}}, "does not say how the trial ended"),
        ({"status": "completed"}, "no record of this trial"),
        ({"status": "completed", "record": {"trial_id": "zz"}}, "no record of this trial"),
        ({"status": "completed", "record": {"trial_id": "ID", "seed": "x"}}, "column seed must be"),
        ({"status": "completed", "record": {"trial_id": "ID"}, "x": 1}, "no checksums, but x"),
    ],
)
def test_an_old_result_that_is_none_is_refused(old, content, says):
    text = json.dumps(content).replace("ID", old.trial_id)
    (old.path / "result.json").write_text(text)
    with pytest.raises(Damaged, match=says):
        old.result()


# Plans and books


def test_a_plan_with_a_checksum_comes_back_and_every_flip_of_it_is_noticed(tmp_path):
    path, content = tmp_path / "plan.json", {"trials": [{"seed": 0.1}], "command": "ä"}
    storage = Folder(path.parent)
    write_sealed(storage, path.name, content)
    assert read_sealed(storage, path.name, ("trials",), "again") == content
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(flip(whole, place))
        with pytest.raises(ValueError, match=r"plan\.json .*; again$"):
            read_sealed(storage, path.name, ("trials",), "again", ("command",))


@pytest.mark.parametrize("text", ["{}", "[]", "[" * 100_000, "", "null"])
def test_a_plan_that_is_none_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"plan\.json.*; again") as caught:
        read_sealed(Folder(tmp_path), path.name, ("trials",), "again")
    assert "\n" not in str(caught.value)


# Places that cannot be a store


def test_links_to_nowhere_are_no_store(tmp_path):
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "round").symlink_to("round")
    for bad in ("gone", "round", "gone/below"):
        with pytest.raises(ValueError, match=r"cannot use .* as a store: .* leads nowhere"):
            Store.open(tmp_path / bad)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gone", "round"]


def test_a_working_directory_that_was_removed(monkeypatch):
    here = tempfile.mkdtemp()
    monkeypatch.chdir(here)
    os.rmdir(here)
    with pytest.raises(ValueError, match="the working directory is gone"):
        Store.open("results")
