"""A layer without any linear system in a trial: trained, stopped, resumed, recorded, reported."""

import json
import re

import pandas as pd
import pytest
import torch

from harness.cli.app import execute
from harness.models import load
from harness.planning.plan import Plan
from harness.records.store import Store
from harness.suite import TrialSpec
from harness.suite import load as load_suite
from harness.training.costs.latency import step_latency
from harness.training.trial import Execution, Interrupted, run_trial

from .trials import record_of, table_of, trial_spec, weights_of

GRU = {"kind": "gru"}
SHORT = {"steps": 40, "evaluate_every": 10}
FULL = trial_spec({"kind": "full"}, model={**GRU, "dropout": 0.1}, training=SHORT)
SMALL = trial_spec({"kind": "small", "state_dims": [4]}, model=GRU, training={"steps": 10})
SUITE = """
from harness.suite import *

suite = Suite(
    name="gated",
    comparisons=[
        Comparison(
            task=TaskSpec(name="digits"),
            model=ModelSpec(kind="gru", width=8, state_dim=12),
            training=TrainingSpec(steps=4, batch_size=20, evaluate_every=2),
            arms={
                "full": FullSpec(kind="full"),
                "small": SmallSpec(kind="small", state_dims=[3]),
                ARM
            },
            seeds=(0, 1),
        )
    ],
)
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A trial that nothing interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_DEVICE", "cpu")
        store = Store.open(tmp_path_factory.mktemp("whole"))
        run_trial(FULL, store)
    return store


def test_it_trains_and_records_no_spectra(whole):
    folder = whole.trial(FULL.trial_id)
    result = folder.result()
    record = result["record"]
    assert result["status"] == "completed"
    assert record["model"] == "gru"
    assert (record["state_dims"], record["state_dim_total"]) == ([16, 12], 28)
    assert record["backend"] == "torch"
    assert record["state_bytes"] == 4 * (28 + 8)  # hidden states, and the pool of 8 channels
    assert record["train_flops"] == record["flops_method"] > 0
    assert table_of(whole, FULL.trial_id, "spectra") == []
    assert table_of(whole, FULL.trial_id, "truncations") == []
    losses = [
        row["value"] for row in table_of(whole, FULL.trial_id, "curves") if row["metric"] == "loss"
    ]
    assert losses[-1] < losses[0]


def test_what_is_stored_is_the_model_that_was_tested(whole):
    folder = whole.trial(FULL.trial_id)
    model = load(folder.path)
    assert model.state_dims == [16, 12]
    assert json.loads((folder.path / "model.json").read_text())["model"]["kind"] == "gru"
    record = folder.result()["record"]
    assert sum(p.numel() for p in model.parameters()) == record["parameters"]
    assert model.initial_state(1).bytes == record["state_bytes"]


def test_stopped_at_every_boundary_it_ends_bit_identical(whole, store):
    stops = 0
    while True:
        boundaries = iter((False, True))
        try:
            run_trial(
                FULL, store, Execution(stop=lambda b=boundaries: next(b), checkpoint_seconds=0)
            )
        except Interrupted:
            stops += 1
        except StopIteration:
            break
        else:
            break
    assert stops >= 3
    assert weights_of(store, FULL.trial_id) == weights_of(whole, FULL.trial_id)
    for name in ("curves", "spectra"):
        assert table_of(store, FULL.trial_id, name) == table_of(whole, FULL.trial_id, name)
    results = (one.trial(FULL.trial_id).result() for one in (store, whole))
    assert record_of(next(results)) == record_of(next(results))


def test_small_is_a_full_one_of_these_sizes(store):
    resolved = SMALL.resolved()
    assert resolved.model.kind == "gru"
    assert resolved.model.state_dims == (4, 4)
    record = run_trial(SMALL, store)["record"]
    assert record["state_dims"] == [4, 4]


def test_a_small_one_can_learn_from_it(whole):
    arm = {"kind": "distill", "state_dims": [3]}
    student = trial_spec(arm, model={**GRU, "dropout": 0.1}, training=SHORT)
    record = run_trial(student, whole)["record"]
    assert (record["status"], record["state_dims"]) == ("completed", [3, 3])


def test_a_suite_of_it_is_reported(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HARNESS_STORE", str(tmp_path / "store"))
    (tmp_path / "gated.py").write_text(SUITE.replace("ARM", ""))
    store = Store.open(tmp_path / "store")
    plan = Plan(load_suite(str(tmp_path / "gated.py")), store)
    for row in plan.rows:
        run_trial(row.spec, store)
    assert execute(["run", str(tmp_path / "gated.py")]) == 0
    assert execute(["table", "gated"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"full +12 +2 ", said)
    assert re.search(r"small +3 +2 ", said)
    folder = store.suite("gated").folder
    assert len(pd.read_parquet(folder / "spectra.parquet")) == 0
    assert {"state_dim.png", "cost.png"} <= {path.name for path in (folder / "figures").iterdir()}
    assert "small from scratch" in (folder / "index.html").read_text()


LACKS_SYSTEM = "needs a layer that gives its system; gru gives none"
REFUSED = {
    "in_training": ({"kind": "in_training"}, LACKS_SYSTEM),
    "post_hoc": ({"kind": "post_hoc", "tau": 0.1}, LACKS_SYSTEM),
    "hankel_regularized": ({"kind": "hankel_regularized", "tau": 0.1}, LACKS_SYSTEM),
}


@pytest.mark.parametrize("arm", REFUSED)
def test_an_arm_that_truncates_is_refused_with_the_reason(arm):
    spec, message = REFUSED[arm]
    with pytest.raises(ValueError, match=f"arm {arm} {message}"):
        trial_spec(spec, model=GRU)


@pytest.mark.parametrize("command", ["plan", "run"])
def test_by_the_command_line_too_before_anything_starts(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HARNESS_STORE", str(tmp_path / "store"))
    path = tmp_path / "gated.py"
    path.write_text(SUITE.replace("ARM", '"ours": InTrainingSpec(kind="in_training")'))
    assert execute([command, str(path)]) == 2
    err = capsys.readouterr().err
    assert err == f"harness: {path}, line 7: arm in_training {LACKS_SYSTEM}\n"
    assert not (tmp_path / "store").exists()


def test_a_step_of_it_can_be_timed(whole):
    from harness import tasks

    model = load(whole.trial(FULL.trial_id).path)
    seconds, size = step_latency(model, tasks.build(FULL.task), torch.device("cpu"))
    assert seconds > 0
    assert size == model.initial_state(1).bytes


def test_a_spec_names_its_kind_and_others_are_of_the_first():
    assert TrialSpec(**{**FULL.model_dump(), "model": {"width": 4}}).model.kind == "lru"
    assert '"kind":"gru"' in FULL.model_dump_json()
