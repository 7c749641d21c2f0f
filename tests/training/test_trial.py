"""What a trial records: selection, divergence, clocks, costs, refusals."""

from __future__ import annotations

import json
import re
import time
from types import SimpleNamespace

import pytest
import torch

from harness.models import build, load
from harness.records.lease import Busy
from harness.records.store import TrialDir
from harness.suite import TrialSpec
from harness.tasks import TaskInfo
from harness.training import boundary
from harness.training import trial as trial_module
from harness.training.costs.clocks import NAMES, Clocks
from harness.training.host import faults
from harness.training.state import RunState
from harness.training.step import objective
from harness.training.step.optimizer import make_optimizer
from harness.training.trial import run_trial

from .trials import copy_source, record_of, table_of, trial_spec, weights_of

ARM_NAMES = ("full", "in_training", "untruncated", "post_hoc")


def result_of(store, spec):
    return store.trial(spec.trial_id).result()


def test_tau_zero_is_bit_identical_to_full(undisturbed, specs):
    full, none = specs["full"].trial_id, specs["untruncated"].trial_id
    assert full != none
    assert weights_of(undisturbed, full) == weights_of(undisturbed, none)
    for name in ("curves", "spectra", "truncations"):
        rows = [
            [{**row, "trial_id": None} for row in table_of(undisturbed, i, name)]
            for i in (full, none)
        ]
        assert rows[0] == rows[1], name
    records = [record_of(undisturbed.trial(i).result()) for i in (full, none)]
    differ = {k for k in records[0] if records[0][k] != records[1][k]}
    # Looking at the spectra has its price, and only that.
    assert differ == {"trial_id", "arm", "flops_method"}


# A step of 1e3 leaves eigenvalues that round to 1, of 1e4 and more NaN or infinite systems. An
# evaluation after every step meets them before a loss shows them.
DIVERGENCE = re.compile(
    r"the loss is (nan|inf|-inf) by step \d+"
    r"|the system is broken at step \d+: block [01]: .*(must be finite|must be below 1)"
)


@pytest.mark.parametrize("evaluate_every", [20, 1])
@pytest.mark.parametrize("lr", [1e3, 1e4, 1e30])
def test_divergence_is_a_result(lr, evaluate_every, store):
    training = {"steps": 40, "lr": lr, "evaluate_every": evaluate_every, "warmup": 0.0}
    spec = trial_spec({"kind": "full"}, training=training)
    result = run_trial(spec, store)
    assert result["status"] == "diverged", result["message"]
    assert DIVERGENCE.match(result["message"]), result["message"]
    record = result["record"]
    assert record["status"] == "diverged"
    assert record["test_metric"] is record["val_metric"] is record["selected_step"] is None
    assert record["state_dims"] == [16, 12]
    assert store.trial(spec.trial_id).ended()
    assert json.loads((store.trial(spec.trial_id).path / "result.json").read_text()) == result
    assert not (store.trial(spec.trial_id).path / "model.safetensors").exists()
    assert run_trial(spec, store) == result


BROKEN = {
    "nan": ({"B_re": float("nan")}, "must be finite"),
    "infinite": ({"gamma_log": 1e4}, "must be finite"),
    "unstable": ({"nu_log": -60.0}, "must be below 1"),
    "too large": ({"gamma_log": 400.0}, "overflow"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_system_is_divergence(kind):
    values, reason = BROKEN[kind]
    spec = trial_spec({"kind": "full"})
    model = build(spec.model, TaskInfo("classification", 10, 8, inputs=1))
    state = RunState(model, make_optimizer(model, spec.training), step=7)
    context = SimpleNamespace(spec=spec)
    boundary.decompositions_of(context, state)
    with torch.no_grad():
        for name, value in values.items():
            getattr(model.blocks[1].ssm, name)[3] = value
    with pytest.raises(faults.Diverged, match=f"broken at step 7: block 1: .*{reason}"):
        boundary.decompositions_of(context, state)


def test_post_hoc_of_a_diverged_source_is_refused(store):
    training = {"steps": 40, "lr": 1e4, "warmup": 0.0}
    run_trial(trial_spec({"kind": "full"}, training=training), store)
    with pytest.raises(ValueError, match="has diverged in this store"):
        run_trial(trial_spec({"kind": "post_hoc", "tau": 0.1}, training=training), store)


@pytest.mark.parametrize("arm", ["in_training", "post_hoc"])
def test_only_models_of_the_final_size_are_selected(arm, undisturbed, specs):
    spec = specs[arm]
    record = result_of(undisturbed, spec)["record"]
    truncations = table_of(undisturbed, spec.trial_id, "truncations")
    assert len(truncations) >= 2
    last = max(row["step"] for row in truncations)
    final = [row["dim_after"] for row in truncations if row["step"] == last]
    assert record["selected_step"] >= last
    assert record["state_dims"] == final
    assert record["state_dim_total"] == sum(final) < 28
    assert record["state_dim_mean"] == sum(final) / 2
    assert record["initial_state_dim"] == 14
    model = load(undisturbed.trial(spec.trial_id).path)
    assert model.state_dims == final
    assert record["parameters"] == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("arm", ARM_NAMES)
def test_the_best_evaluation_at_the_final_size_is_selected(arm, undisturbed, specs):
    tid = specs[arm].trial_id
    record = result_of(undisturbed, specs[arm])["record"]
    steps = [row["step"] for row in table_of(undisturbed, tid, "truncations")]
    last = max(steps, default=0)
    points = [
        (row["value"], row["step"])
        for row in table_of(undisturbed, tid, "curves")
        if row["split"] == "validation" and row["step"] >= last
    ]
    best = max(value for value, _ in points)
    assert record["val_metric"] == best
    assert record["selected_step"] == min(step for value, step in points if value == best)


def test_a_better_model_of_a_larger_size_does_not_win(store, monkeypatch):
    scores = iter([0.9, 0.5, 0.9, 0.5, 0.4, 0.45, 0.3, 0.3, 0.3, 0.2, 0.1, 0.05])
    splits = []

    def scripted(model, task, split, device):
        splits.append((split, model.state_dims))
        return next(scores) if split == "validation" else 0.123

    monkeypatch.setattr(boundary, "evaluate", scripted)
    monkeypatch.setattr(trial_module, "evaluate", scripted)
    # Evaluations: step 20 (0.9), before and after the event at step 30 (0.5, 0.9),
    # before and after the event at step 60 (0.5, 0.4), then steps 80, 100, 120.
    arm = {"kind": "in_training", "tau": 0.3, "end": 0.5, "count": 2}
    result = run_trial(trial_spec(arm), store)
    record = result["record"]
    spec = trial_spec(arm)
    events = {row["step"] for row in table_of(store, spec.trial_id, "truncations")}
    assert events == {30, 60}
    curve = [
        (row["step"], row["value"])
        for row in table_of(store, spec.trial_id, "curves")
        if row["split"] == "validation"
    ]
    # The evaluation at step 40 lies between the events.
    assert curve == [(20, 0.9), (30, 0.9), (40, 0.5), (60, 0.45), (80, 0.3), (100, 0.3), (120, 0.3)]
    assert record["selected_step"] == 60
    assert record["val_metric"] == 0.45
    assert record["test_metric"] == 0.123
    assert [split for split, _ in splits].count("test") == 1
    assert splits[-1] == ("test", record["state_dims"])


@pytest.mark.parametrize("arm", ARM_NAMES)
def test_the_test_split_is_evaluated_once_on_the_selected_model(
    arm, store, undisturbed, specs, monkeypatch
):
    spec = specs[arm]
    copy_source(spec, undisturbed, store)
    seen = []

    def spy(model, task, split, device):
        weights = {k: v.clone() for k, v in model.state_dict().items()}
        seen.append((split, weights))
        return evaluate(model, task, split, device)

    evaluate = trial_module.evaluate
    monkeypatch.setattr(boundary, "evaluate", spy)
    monkeypatch.setattr(trial_module, "evaluate", spy)
    run_trial(spec, store)
    assert [split for split, _ in seen].count("test") == 1
    split, weights = seen[-1]
    assert split == "test"
    stored = load(store.trial(spec.trial_id).path).state_dict()
    assert weights.keys() == stored.keys()
    assert all(torch.equal(weights[k], stored[k]) for k in stored)


@pytest.mark.parametrize("arm", ARM_NAMES)
def test_clocks_sum_to_the_total(arm, undisturbed, specs):
    record = result_of(undisturbed, specs[arm])["record"]
    parts = [record[f"seconds_{name}"] for name in NAMES]
    assert all(part >= 0 for part in parts)
    assert sum(parts) == pytest.approx(record["seconds_total"], rel=1e-12)
    assert record["seconds_spent"] == record["seconds_total"] + record["seconds_lost"]
    assert record["seconds_lost"] == 0.0
    assert record["seconds_train"] > 0
    assert record["seconds_evaluate"] > 0
    assert record["seconds_spectra"] > 0
    assert (record["seconds_truncate"] > 0) == (arm != "full")


def test_the_clocks_cover_the_wall(store, specs, monkeypatch):
    writing = Clocks(torch.device("cpu"))

    def timed(write):
        def call(*arguments):
            with writing("checkpoint"):
                return write(*arguments)

        return call

    # What no clock covers is writing the model and the record, and a disk may take its time.
    for name in ("save_model", "finish"):
        monkeypatch.setattr(TrialDir, name, timed(getattr(TrialDir, name)))
    begun = time.perf_counter()
    record = run_trial(specs["full"], store)["record"]
    wall = time.perf_counter() - begun - writing.total
    assert 0.95 * wall - 0.1 < record["seconds_total"] <= wall


def test_post_hoc_pays_for_the_full_training_it_stands_on(undisturbed, specs):
    full = result_of(undisturbed, specs["full"])["record"]
    post = result_of(undisturbed, specs["post_hoc"])["record"]
    assert full["flops_method"] == full["train_flops"] == full["flops_spent"]
    assert post["flops_method"] > full["flops_method"] + post["train_flops"]
    assert post["seconds_method"] == pytest.approx(
        full["seconds_method"] + post["seconds_train"] + post["seconds_truncate"], rel=1e-12
    )
    assert 0 < post["train_flops"] < full["train_flops"]
    assert post["flops_spent"] == post["train_flops"]


def test_post_hoc_starts_from_the_selected_model(undisturbed, store, specs):
    spec = trial_spec({"kind": "post_hoc", "state_dims": [16, 12]})
    source = spec.source().trial_id
    copy_source(spec, undisturbed, store)
    record = run_trial(spec, store)["record"]
    full = undisturbed.trial(source).result()["record"]
    assert record["test_metric"] == full["test_metric"]
    assert record["val_metric"] == full["val_metric"]
    assert record["train_flops"] == 0.0
    assert weights_of(store, spec.trial_id) == weights_of(undisturbed, source)
    assert table_of(store, spec.trial_id, "truncations") == []


def test_truncations_record_what_happened(undisturbed, specs):
    tid = specs["in_training"].trial_id
    rows = table_of(undisturbed, tid, "truncations")
    spectra = table_of(undisturbed, tid, "spectra")
    curve = {
        row["step"]: row["value"]
        for row in table_of(undisturbed, tid, "curves")
        if row["split"] == "validation"
    }
    for row in rows:
        before, after = (
            next(
                s["hankel_singular_values"]
                for s in spectra
                if (s["step"], s["block"]) == (row["step"], row["block"])
                and len(s["hankel_singular_values"]) == row[f"dim_{when}"]
            )
            for when in ("before", "after")
        )
        assert row["tau"] == 0.2
        kept = sum(before[: row["dim_after"]]) / sum(before)
        assert row["energy_kept"] == pytest.approx(kept, rel=1e-9)
        assert row["energy_kept"] >= 0.8
        assert row["error_bound"] == pytest.approx(2 * sum(before[row["dim_after"] :]), rel=1e-9)
        assert row["val_after"] == curve[row["step"]]
        assert len(after) == row["dim_after"] <= row["dim_before"]


def test_spectra_are_recorded_at_step_zero_and_at_every_evaluation(undisturbed, specs):
    for arm in ARM_NAMES:
        tid = specs[arm].trial_id
        steps = {row["step"] for row in table_of(undisturbed, tid, "spectra")}
        evaluated = {row["step"] for row in table_of(undisturbed, tid, "curves")}
        assert steps == evaluated | {0}
        for row in table_of(undisturbed, tid, "spectra"):
            values, shares = row["hankel_singular_values"], row["mode_shares"]
            assert values == sorted(values, reverse=True)
            assert sum(shares) == pytest.approx(sum(values), rel=1e-6)


def test_post_hoc_without_its_source_is_refused_in_one_line(store):
    with pytest.raises(ValueError, match="which has not been run in this store") as refused:
        run_trial(trial_spec({"kind": "post_hoc", "tau": 0.1}), store)
    assert "\n" not in str(refused.value)
    assert not (store.root / "trials").exists()


def test_a_batch_larger_than_the_training_split_is_refused(store):
    """What only the data can tell, such as the windows of `pylib`, before anything is written."""
    spec = TrialSpec(
        task={"name": "pylib", "window": 65_536, "validation": 1, "test": 1},
        model={"blocks": 1, "width": 1, "state_dim": 1, "norm": "none", "mixer": "linear"},
        training={"batch_size": 2_000},
        arm={"kind": "full"},
    )
    with pytest.raises(ValueError, match="larger than the training split of pylib, ") as no:
        run_trial(spec, store)
    assert "\n" not in str(no.value)
    assert not (store.root / "trials").exists()


def test_an_arm_that_matches_another_is_only_sized_by_a_plan(store):
    for kind in ("small", "post_hoc"):
        arm = {"kind": kind, "match": "seed", "to": {"kind": "in_training"}}
        with pytest.raises(ValueError, match="only a suite's plan can size it"):
            run_trial(trial_spec(arm), store)
    assert not (store.root / "trials").exists()


def test_a_trial_that_is_being_run_is_not_run_twice(store, specs):
    spec = specs["full"]
    with store.trial(spec.trial_id).claim(), pytest.raises(Busy):
        run_trial(spec, store)


OWN_ERRORS = {
    "no diagonal form": (ValueError("block 1: no diagonal form"), "block 1: no diagonal form"),
    "LAPACK": (
        torch.linalg.LinAlgError("linalg.eigh: failed to converge\nbecause"),
        "LinAlgError: linalg.eigh: failed to converge",
    ),
    "torch": (RuntimeError("shapes do not match"), "RuntimeError: shapes do not match"),
    "ours": (KeyError("nosuch"), "KeyError: 'nosuch'"),
}


@pytest.mark.parametrize("where", ["truncate", "decompositions", "step_latency"])
@pytest.mark.parametrize("kind", OWN_ERRORS)
def test_the_trials_own_error_is_a_result(kind, where, store, monkeypatch):
    error, said = OWN_ERRORS[kind]

    def broken(*_, **__):
        raise error.with_traceback(None)

    module = trial_module if where == "step_latency" else boundary
    monkeypatch.setattr(module, where, broken)
    arm = {"kind": "in_training", "tau": 0.5, "end": 0.5, "count": 1}
    spec = trial_spec(arm, training={"steps": 4, "evaluate_every": 2})
    result = run_trial(spec, store)
    assert result["status"] == "failed"
    file = "trial" if where == "step_latency" else "boundary"
    pattern = rf"{re.escape(said)} \(harness/training/{file}\.py:\d+\)"
    assert re.fullmatch(pattern, result["message"])
    assert result["record"]["test_metric"] is None
    assert run_trial(spec, store) == result  # it is not run again


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("no memory"),
        MemoryError(),
        OSError(28, "No space left on device"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("can't start new thread"),
    ],
)
@pytest.mark.parametrize("where", ["loss_of", "step_latency"])
def test_a_fault_of_the_machine_is_no_result(error, where, store, monkeypatch):
    def broken(*_, **__):
        raise error.with_traceback(None)

    spec = trial_spec({"kind": "full"}, training={"steps": 2})
    monkeypatch.setattr(objective if where == "loss_of" else trial_module, where, broken)
    with pytest.raises(type(error)):
        run_trial(spec, store)
    assert not store.trial(spec.trial_id).ended()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_test_metric_that_is_no_number_is_divergence(value, store, monkeypatch):
    monkeypatch.setattr(trial_module, "evaluate", lambda *_: value)
    spec = trial_spec({"kind": "full"}, training={"steps": 2})
    result = run_trial(spec, store)
    assert (result["status"], result["message"]) == ("diverged", f"the test accuracy is {value}")
    assert result["record"]["test_metric"] is result["record"]["val_metric"] is None
    assert not (store.trial(spec.trial_id).path / "model.safetensors").exists()


def test_a_trial_may_end_with_one_state(store):
    arm = {"kind": "in_training", "tau": 0.99, "end": 0.5, "count": 1}
    spec = trial_spec(arm, training={"steps": 4, "evaluate_every": 2})
    result = run_trial(spec, store)
    assert (result["status"], result["record"]["state_dims"]) == ("completed", [1, 1])
    assert result["record"]["step_latency_seconds"] > 0
    assert load(store.trial(spec.trial_id).path).state_dims == [1, 1]


def test_a_backend_that_cannot_run_here_is_refused_before_there_are_data(
    store, monkeypatch, tmp_path
):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "data"))
    spec = TrialSpec(
        task={"name": "vowels", "length": 64, "train": 50, "validation": 10, "test": 10},
        model={"backend": "triton"},
        arm={"kind": "full"},
    )
    with pytest.raises(ValueError, match="backend triton cannot run here"):
        run_trial(spec, store)
    assert not (tmp_path / "data").exists()
    assert not (store.root / "trials").exists()


def test_spec_and_manifest_are_written_first(undisturbed, specs):
    for spec in specs.values():
        folder = undisturbed.trial(spec.trial_id)
        assert TrialSpec.model_validate_json((folder.path / "spec.json").read_text()) == spec
        assert folder.manifest()["identity"]["threads"] == 1
        assert (
            folder.manifest()["data_fingerprint"] == folder.result()["record"]["data_fingerprint"]
        )


def test_the_random_generator_of_the_caller_draws_nothing(store, specs):
    """Weights come from the seed, not from what was drawn before."""
    torch.manual_seed(123)
    first = run_trial(specs["full"], store)
    state = store.trial(specs["full"].trial_id)
    weights = weights_of(store, specs["full"].trial_id)
    state.wipe()
    torch.manual_seed(321)
    torch.rand(7)
    assert record_of(run_trial(specs["full"], store)) == record_of(first)
    assert weights_of(store, specs["full"].trial_id) == weights
