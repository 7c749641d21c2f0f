"""What an earlier harness stored is read, resumed, grown and repeated by this one."""

import json
import tarfile
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from harness.cli.app import execute
from harness.planning.plan import Plan
from harness.records.files import write_json
from harness.records.store import Store
from harness.suite import TrialSpec, load, override
from harness.training.host import machine
from harness.training.trial import run_trial
from tests.cli.conftest import TINY
from tests.training.trials import assert_same
from tests.tune.playing import concluded, play, tiny_study

from .canary import canary

HERE = Path(__file__).parent
KEPT = json.loads((HERE / "trials.json").read_text())
LATER = json.loads((HERE / "gru.json").read_text())
SHORT = {n: one for n, one in (KEPT["trials"] | LATER["trials"]).items() if n != "unfinished"}
UNFINISHED = KEPT["trials"]["unfinished"]


def spec_of(one):
    return TrialSpec.model_validate_json(json.dumps(one["spec"]))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The store as it was written; not to be changed."""
    return unpacked(tmp_path_factory.mktemp("kept"))


@pytest.fixture
def store(tmp_path):
    """A copy of it."""
    return unpacked(tmp_path)


def unpacked(folder):
    for name in ("store.tar.xz", "gru.tar.xz"):
        with tarfile.open(HERE / name) as tar:
            tar.extractall(folder, filter="data")
    return Store.open(folder / "store")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("HARNESS_THREADS", "HARNESS_CHECKPOINT_SECONDS", "HARNESS_STORE", "HARNESS_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HARNESS_DEVICE", "cpu")


@pytest.fixture(scope="module")
def same_bits():
    """Whether bits can be compared here; all were written by machines that round alike."""
    return canary() == KEPT["canary"] == LATER["canary"]


def assert_close(one, two):
    """Weights that differ by no more than two machines' roundings in 60 steps."""
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], rtol=2e-3, atol=2e-3)


def weights(store, trial_id):
    return load_file(store.trial(trial_id).path / "model.safetensors")


def test_the_ids_of_118_specs():
    known = json.loads((HERE / "ids.json").read_text())
    assert len(known) == 118
    for one in known:
        assert spec_of(one).trial_id == one["trial_id"], one["spec"]


@pytest.mark.parametrize("name", SHORT)
def test_a_trial_repeated_has_the_same_bits(name, kept, tmp_path, same_bits):
    spec = spec_of(SHORT[name])
    assert spec.trial_id == SHORT[name]["trial_id"]
    again = Store.open(tmp_path / "again")
    for one in filter(None, (spec.source(), spec)):
        record = run_trial(one, again)["record"]
    then = kept.trial(spec.trial_id).result()["record"]
    if record["data_fingerprint"] != then["data_fingerprint"]:
        pytest.skip("the data are another Python's library")
    assert record["state_dims"] == then["state_dims"]
    assert_close(weights(again, spec.trial_id), weights(kept, spec.trial_id))
    if same_bits:
        without = ("truncations", "spectra") if spec.model.kind == "gru" else ("truncations",)
        assert_same(kept, again, spec.trial_id, without)


def test_an_unfinished_trial_goes_on(store, same_bits):
    spec = spec_of(UNFINISHED)
    folder = store.trial(spec.trial_id)
    assert not folder.ended()
    manifest = folder.manifest()
    here = machine.manifest(torch.device("cpu"), 1)
    if not same_bits:  # a resume on another machine is refused, as it should be
        write_json(folder.path / "manifest.json", {**manifest, "identity": here["identity"]})
    record = run_trial(spec, store)["record"]
    assert record["restarts"] == 1
    ended = weights(store, spec.trial_id)
    expected = load_file(HERE / "unfinished.safetensors")
    assert_close(ended, expected)
    if same_bits:
        assert all(torch.equal(ended[name], expected[name]) for name in expected)


@pytest.mark.parametrize("name", ["tiny", "tiny_study", "tiny_study.confirm"])
def test_its_comparison_comes_out_as_it_was(name, store, capsys):
    path = store.suite(name).folder / "comparison.parquet"
    before = pd.read_parquet(path)
    path.unlink()
    assert execute(["report", name, "--store", str(store.root)]) == 0
    after = pd.read_parquet(path)
    pd.testing.assert_frame_equal(after[before.columns], before)
    assert execute(["table", name, "--store", str(store.root)]) == 0
    assert "in_training" in capsys.readouterr().out or name != "tiny"


def test_its_suite_grows(store, tmp_path):
    (tmp_path / "tiny.py").write_text(TINY)
    suite = load(str(tmp_path / "tiny.py"))
    plan = Plan(suite, store)
    assert {plan.state(row) for row in plan.rows} == {"completed"}
    assert any(plan.result(row.spec.trial_id)["record"]["forked_from"] for row in plan.rows)
    grown = Plan(override(suite, ["seeds=[0,1,2]"]), store)
    missing = [row.role.trial.seed for row in grown.rows if grown.state(row) == "missing"]
    assert set(missing) == {2}


def test_its_study_goes_on_where_it_stood(store):
    content = concluded(store, "tiny_study")
    trials = store.ended_trials()
    study = tiny_study(
        name="tiny_study", budget={"candidates": 4}, seeds=[0, 1], confirm_seeds=[10, 11]
    )
    play(study, store)
    assert store.ended_trials() == trials
    after = concluded(store, "tiny_study")
    assert {key: after[key] for key in content} == content
