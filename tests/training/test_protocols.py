"""What differs between the protocols, difference by difference."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from harness import tasks
from harness.models import load
from harness.models.blocks import SharedDropout
from harness.protocols import PROTOCOLS
from harness.training.selection import consider
from harness.training.step.objective import loss_under
from harness.training.trial import run_trial

from .trials import table_of, trial_spec

EARLY = {"kind": "in_training", "tau": 0.2, "end": 0.5, "count": 2}


def spec_under(protocol, arm=EARLY, **fields):
    training = {"protocol": protocol, **fields.pop("training", {})}
    return trial_spec(arm, training=training, **fields)


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """One in-training trial under each protocol, and the stores that hold them."""
    from harness.records.store import Store

    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_DEVICE", "cpu")
        for protocol in PROTOCOLS:
            store = Store.open(tmp_path_factory.mktemp(protocol))
            spec = spec_under(protocol, model={"dropout": 0.1})
            found[protocol] = (run_trial(spec, store), store, spec)
    return found


# Evaluations as (step, value), truncations as (step, value before, value after); higher is better.
TIE = [(10, 0.5), (20, 0.6, 0.4), (30, 0.55), (40, 0.6), (50, 0.58)]
BELOW = [(10, 0.5), (20, 0.6, 0.4), (30, 0.55), (40, 0.59), (50, 0.58)]
FALLEN = [(10, 0.7), (20, 0.6, 0.4), (30, 0.55), (40, 0.65), (50, 0.58)]


@pytest.mark.parametrize(
    ("history", "steps"),
    [
        (TIE, {"strict": 40, "published": 40, "release": 20}),  # a tie passes in one of them
        (BELOW, {"strict": 40, "published": 20, "release": 20}),  # the larger model's bar stays
        (FALLEN, {"strict": 40, "published": 20, "release": 40}),  # and is reset in one of them
    ],
)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_selection_by_hand(history, steps, sign):
    for protocol, step in steps.items():
        assert selected_of(protocol, history, sign) == step, protocol


@pytest.mark.parametrize("protocol", ["published", "release"])
def test_a_truncation_before_training_leaves_no_bar(protocol):
    """The larger model's 0.9 is nothing that what is tuned from its truncation must beat."""
    assert selected_of(protocol, [(0, 0.9, 0.4), (10, 0.5), (20, 0.6), (30, 0.55)]) == 20


def selected_of(protocol, history, sign=1.0):
    """The step of the model that a history of evaluations and truncations ends with."""
    run = SimpleNamespace(
        protocol=PROTOCOLS[protocol], sign=sign, spec=spec_under(protocol, {"kind": "full"})
    )
    model = torch.nn.Linear(1, 1)
    model.state_dims = [3]
    state = SimpleNamespace(step=0, selected=None, bar=None, model=model)
    for state.step, *values in history:
        event = sign * values[0] if len(values) == 2 else None
        consider(run, state, sign * values[-1], event)
    return state.selected.step


def test_whole_trials_truncate_where_their_protocol_says(ended):
    """120 steps, evaluations every 20, a window to step 60 with 2 truncations."""
    expected = {"strict": {30, 60}, "published": {20, 40, 60}, "release": {60}}
    for protocol, at in expected.items():
        _, store, spec = ended[protocol]
        rows = table_of(store, spec.trial_id, "truncations")
        assert {row["step"] for row in rows} == at, protocol


def test_only_strict_selects_among_models_of_the_final_size_alone(ended):
    result, store, spec = ended["strict"]
    last = max(row["step"] for row in table_of(store, spec.trial_id, "truncations"))
    assert result["record"]["selected_step"] >= last


def test_the_norm_is_the_published_one_in_name_and_in_the_stored_model(ended):
    for protocol, name in {"strict": "BatchNorm", "published": "EmaBatchNorm"}.items():
        _, store, spec = ended[protocol]
        model = load(store.trial(spec.trial_id).path)
        assert type(model.blocks[0].norm).__name__ == name
    assert spec_under("published", model={"norm": "none"}).built.norm == "none"


def test_a_block_with_a_norm_of_its_own_keeps_it():
    mamba = trial_spec({"kind": "full"}, model={"kind": "mamba"}).model
    for protocol in PROTOCOLS.values():
        built = protocol.model(mamba)
        assert type(mamba).model_validate(built.model_dump()) == built  # as a stored model is read
    around = trial_spec({"kind": "full"}, model={"kind": "mamba", "block": "backbone"}).model
    assert PROTOCOLS["published"].model(around).norm == "ema_batch"


def test_one_dropout_mask_for_the_batch():
    assert spec_under("strict").built.dropout_mask == "each"
    assert spec_under("release").built.dropout_mask == "shared"
    torch.manual_seed(0)
    dropped = SharedDropout(0.25)(torch.ones(5, 400, 3))
    assert torch.equal(dropped, dropped[:1].expand_as(dropped))
    kept = dropped != 0
    assert dropped[kept].unique().tolist() == [pytest.approx(1 / 0.75)]
    assert 0.70 < kept[0].float().mean() < 0.80
    assert torch.equal(SharedDropout(0.25).eval()(torch.ones(2, 4, 3)), torch.ones(2, 4, 3))


def test_the_published_loss_adds_epsilon_to_the_probability():
    info = tasks.TaskInfo("classification", outputs=2, length=4, inputs=1)
    logits, target = torch.tensor([[0.0, 40.0]]), torch.tensor([0])
    losses = {p: float(loss_under(spec_under(p), info)(logits, target)) for p in PROTOCOLS}
    assert losses["strict"] == pytest.approx(40.0)
    assert losses["published"] == losses["release"] == pytest.approx(-math.log(1e-8), rel=1e-6)


@pytest.mark.parametrize("protocol", ["published", "release"])
def test_the_runs_seed_draws_the_split(protocol, ended):
    specs = [spec_under(protocol, seed=seed) for seed in (0, 1)]
    one, two = (tasks.build(spec.data) for spec in specs)
    assert one.fingerprint != two.fingerprint
    assert one.pool_fingerprint == two.pool_fingerprint
    assert spec_under("strict", seed=1).data == spec_under("strict").data
    record = ended[protocol][0]["record"]
    assert record["data_fingerprint"] == one.pool_fingerprint
    assert ended["strict"][0]["record"]["data_fingerprint"] == one.fingerprint


def test_a_protocol_that_passes_over_the_training_split_records_it(ended):
    for protocol, passes in {"strict": 0, "published": 6, "release": 6}.items():
        _, store, spec = ended[protocol]
        curves = table_of(store, spec.trial_id, "curves")
        found = [row for row in curves if (row["split"], row["metric"]) == ("train", "accuracy")]
        assert len(found) == passes, protocol
        assert [row["step"] for row in found] == list(range(20, 121, 20))[:passes]
        assert all(0 <= row["value"] <= 1 for row in found)


def test_the_published_clock_leaves_truncations_out_and_counts_evaluations(ended):
    for protocol in PROTOCOLS:
        record = ended[protocol][0]["record"]
        seconds = record["seconds_protocol"]
        if protocol == "strict":
            assert seconds == pytest.approx(record["seconds_train"] + record["seconds_truncate"])
        else:
            passes = seconds - record["seconds_train"]
            assert 0 < passes < record["seconds_evaluate"]


def test_seeds_and_aggregates_of_the_paper_suites():
    from harness.suite import load as suite

    lengths = {"smnist": 10, "scifar": 5, "listops": 5, "imdb": 5, "aan": 5, "pathfinder": 5}
    for name, count in lengths.items():
        (comparison,) = suite(f"paper.{name}").comparisons
        assert comparison.training.protocol == "published"
        assert len(comparison.seeds) == count
        assert {8, 42, 123, 456, 789} <= set(comparison.seeds)
    assert PROTOCOLS["strict"].aggregate == "mean"
    assert PROTOCOLS["published"].aggregate == PROTOCOLS["release"].aggregate == "top3"


def test_post_hoc_under_published_starts_with_no_bar(store):
    arm = {"kind": "post_hoc", "state_dims": [4], "finetune_steps": 60, "finetune_lr_factor": 1.0}
    spec = spec_under("published", arm)
    run_trial(spec.source(), store)
    result = run_trial(spec, store)
    # The full model's validation is no bar for what is tuned from its truncation.
    assert result["record"]["selected_step"] > 0
