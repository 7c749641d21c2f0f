"""The paper's variants and the rival ways, as whole trials."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from harness import tasks
from harness.arms.distill import distillation_loss
from harness.models import build, load
from harness.reduction import hankel_nuclear_norm, regularizer_flops
from harness.training import boundary
from harness.training.costs.flops import forward_flops, step_flops
from harness.training.state import Kept, RunState, Selected, install, pack, snapshot, unpack
from harness.training.step.loss import loss_of
from harness.training.step.optimizer import make_optimizer
from harness.training.trial import run_trial

from .trials import copy_source, table_of, trial_spec


def result_of(store, spec):
    return store.trial(spec.trial_id).result()


def test_snapshot_and_install_undo_a_cut_and_the_steps_after_it():
    from harness.reduction import truncate

    spec = trial_spec({"kind": "full"}, model={"norm": "ema_batch"})
    model = build(spec.model, tasks.TaskInfo("classification", 10, 8, inputs=1))
    state = RunState(model, make_optimizer(model, spec.training))

    def steps(count, seed):
        generator = torch.Generator().manual_seed(seed)
        for _ in range(count):
            state.optimizer.zero_grad()
            model(torch.randn(4, 8, 1, generator=generator)).square().sum().backward()
            state.optimizer.step()

    steps(3, seed=0)
    before = snapshot(state)
    truncate(model, state_dims=4, optimizer=state.optimizer)
    steps(2, seed=1)
    install(state, before, [16, 12])
    after = snapshot(state)
    assert after.keys() == before.keys()
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor), name
    assert set(state.optimizer.state) == set(model.parameters())  # and nothing of what is gone
    assert any("running_mean" in name for name in before)
    assert any("exp_avg_sq" in name for name in before)
    # What was installed goes on like what was kept, and leaves it alone.
    steps(2, seed=2)
    once = snapshot(state)
    install(state, before, [16, 12])
    steps(2, seed=2)
    assert all(torch.equal(once[name], tensor) for name, tensor in snapshot(state).items())


def test_a_checkpoint_holds_what_a_cut_can_be_undone_to():
    spec = trial_spec({"kind": "full"})
    info = tasks.TaskInfo("classification", 10, 8, inputs=1)
    states = []
    for _ in range(2):
        model = build(spec.model, info)
        states.append(RunState(model, make_optimizer(model, spec.training)))
    here, there = states
    weights = {name: tensor.clone() for name, tensor in here.model.state_dict().items()}
    best = Selected(20, 0.7, weights, [16, 12])
    here.kept = Kept(snapshot(here), [16, 12], 0.6, best)
    tensors, plain = pack(here)
    unpack(there, {name: t.clone() for name, t in tensors.items()}, json.loads(json.dumps(plain)))
    assert there.selected is None
    assert (there.kept.value, there.kept.state_dims) == (0.6, [16, 12])
    found = there.kept.selected
    assert (found.step, found.value, found.state_dims) == (20, 0.7, [16, 12])
    for ours, theirs in ((there.kept.tensors, here.kept.tensors), (found.weights, weights)):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def scripted(values):
    """Validation by a list, one value a call; other splits give 0.1."""
    left = iter(values)
    return lambda _model, _task, split, _device: next(left) if split == "validation" else 0.1


def test_pragmatic_goes_back_to_the_model_before_the_cut_and_cuts_no_more(store, monkeypatch):
    """Events at steps 30, 60, 90, 120; evaluations at 40, 80, 120."""
    spec = trial_spec(
        {"kind": "in_training", "rule": "pragmatic", "end": 1.0, "count": 4, "fraction": 0.5},
        training={"evaluate_every": 40},
    )
    # before and after the cut at 30; at 40; before and after the cut at 60; at 80; before 90: 0.025
    # below what it was before 60, so back to that model; at 120.
    values = [0.5, 0.4, 0.5, 0.6, 0.5, 0.5, 0.575, 0.6, 0.59]
    kept = {}

    def keeping(state):
        kept[state.step] = snapshot(state)
        return kept[state.step]

    monkeypatch.setattr(boundary, "evaluate", scripted(values))
    monkeypatch.setattr(boundary, "snapshot", keeping)
    result = run_trial(spec, store)
    rows = table_of(store, spec.trial_id, "truncations")
    first = [
        (row["step"], row["dim_before"], row["dim_after"]) for row in rows if row["block"] == 0
    ]
    assert first == [(30, 16, 8), (60, 8, 4), (90, 4, 8)]
    back = [row for row in rows if row["step"] == 90]
    assert [row["energy_kept"] for row in back] == [None, None]
    assert {(row["val_before"], row["val_after"]) for row in back} == {(0.575, 0.6)}
    assert result["record"]["state_dims"] == [8, 6]
    assert (result["record"]["selected_step"], result["record"]["val_metric"]) == (90, 0.6)
    weights = load(store.trial(spec.trial_id).path).state_dict()
    for name, tensor in weights.items():
        assert torch.equal(tensor, kept[60][f"model.{name}"]), name


def test_the_best_model_of_the_size_comes_back_with_it(store, monkeypatch):
    """Size 16 has 0.7 at step 20 and 0.6 before its cut at 40; what follows is too bad at 80."""
    spec = trial_spec(
        {"kind": "in_training", "rule": "pragmatic", "start": 0.0, "end": 1.0, "count": 3,
         "fraction": 0.5},
    )  # fmt: skip
    # at 20; before and after the cut at 40; at 60; before 80, and after going back; at 100, 120
    values = [0.7, 0.6, 0.5, 0.5, 0.5, 0.6, 0.6, 0.65]
    monkeypatch.setattr(boundary, "evaluate", scripted(values))
    record = run_trial(spec, store)["record"]
    assert record["state_dims"] == [16, 12]
    assert (record["selected_step"], record["val_metric"]) == (20, 0.7)


def test_a_regularized_model_that_keeps_its_size_is_evaluated_once_at_its_end(store, monkeypatch):
    spec = trial_spec({"kind": "hankel_regularized", "state_dims": [16, 12]})
    monkeypatch.setattr(boundary, "evaluate", scripted([0.3, 0.6, 0.5, 0.4, 0.3, 0.2]))
    record = run_trial(spec, store)["record"]
    assert (record["selected_step"], record["val_metric"]) == (40, 0.6)


def test_pragmatic_goes_on_within_its_tolerance(store, monkeypatch):
    spec = trial_spec(
        {"kind": "in_training", "rule": "pragmatic", "end": 1.0, "count": 2, "fraction": 0.5},
        training={"evaluate_every": 120},
    )
    monkeypatch.setattr(boundary, "evaluate", scripted([0.6, 0.5, 0.59, 0.5]))
    assert run_trial(spec, store)["record"]["state_dims"] == [4, 3]


def test_a_student_is_small_and_its_teacher_is_paid_for(undisturbed, specs):
    spec = specs["distill"]
    record = result_of(undisturbed, spec)["record"]
    teacher = result_of(undisturbed, specs["full"])["record"]
    assert record["state_dims"] == [5, 3]
    assert record["initial_state_dim"] == 4.0
    info = spec.task.info
    student = step_flops(spec.model, info, [5, 3], 20)
    passes = 20 * forward_flops(spec.model, info, [16, 12])
    assert record["train_flops"] == 120 * (int(student) + int(passes))
    assert record["flops_method"] == record["train_flops"] + teacher["flops_method"]
    assert record["seconds_method"] > teacher["seconds_method"]


def test_the_distillation_loss_by_hand():
    answers, logits = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 0.0]])
    label = torch.tensor([0])

    def softmax(values, temperature):
        weights = np.exp(np.array(values) / temperature)
        return weights / weights.sum()

    soft = -(softmax([0, 2], 2) * np.log(softmax([1, 0], 2))).sum()
    hard = -np.log(softmax([1, 0], 1)[0])
    loss = distillation_loss(
        lambda z, y: loss_of("classification", z, y), answers, logits, label, 2.0, 0.25
    )
    assert float(loss) == pytest.approx(0.25 * 4 * soft + 0.75 * hard, rel=1e-6)


def test_alpha_zero_is_small_from_scratch(undisturbed, store, specs):
    """Nothing but the teacher's answers tells a student from a small model."""
    spec = trial_spec({"kind": "distill", "state_dims": [5, 3], "alpha": 0.0})
    copy_source(spec, undisturbed, store)
    small = trial_spec({"kind": "small", "state_dims": [5, 3]})
    results = [run_trial(one, store)["record"] for one in (spec, small)]
    assert results[0]["test_metric"] == results[1]["test_metric"]
    learnt = result_of(undisturbed, specs["distill"])["record"]
    assert learnt["val_metric"] != results[0]["val_metric"]


def test_distillation_without_its_teacher_is_refused_in_one_line(store, specs):
    with pytest.raises(ValueError, match="a distill trial learns from the full trial of its seed"):
        run_trial(specs["distill"], store)
    assert store.trials() == []


def test_a_teacher_of_another_task_is_refused(undisturbed, store, specs):
    spec = specs["distill"]
    copy_source(spec, undisturbed, store)
    folder = store.trial(spec.source().trial_id).path
    for name, change in (
        ("model.json", lambda content: content["task_info"].update(length=784)),
        ("result.json", lambda content: content.pop("checksums")),  # as an old store has it
    ):
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))
    with pytest.raises(ValueError, match="holds a model of another task"):
        run_trial(spec, store)


def test_a_penalty_shrinks_what_it_penalises_and_its_price_is_counted(undisturbed, specs):
    spec = specs["hankel_regularized"]
    record = result_of(undisturbed, spec)["record"]
    full = result_of(undisturbed, specs["full"])["record"]
    extra = sum(regularizer_flops(n, 8, "adjoint") for n in (16, 12))
    assert record["train_flops"] == full["train_flops"] + 120 * int(extra)
    ends = {}
    for name in ("full", "hankel_regularized"):
        rows = table_of(undisturbed, specs[name].trial_id, "spectra")
        last = [row for row in rows if row["step"] == 120 and len(row["mode_shares"]) in (16, 12)]
        ends[name] = sum(np.mean(row["hankel_singular_values"]) for row in last[:2])
    assert ends["hankel_regularized"] < ends["full"]
    (step,) = {row["step"] for row in table_of(undisturbed, spec.trial_id, "truncations")}
    assert step == 120
    assert max(record["state_dims"]) < 16


def test_the_selected_model_is_what_a_regularized_trial_truncates(store, monkeypatch):
    spec = trial_spec({"kind": "hankel_regularized", "state_dims": [9], "weight": 0.1})
    # The best of six evaluations is the second, at step 40; then the truncated model's.
    values = [0.3, 0.6, 0.5, 0.4, 0.3, 0.2, 0.55]
    seen = {}
    whole = boundary.truncate

    def truncate(model, **given):
        seen["weights"] = {k: v.clone() for k, v in model.state_dict().items()}
        return whole(model, **given)

    def spy(run, state, value, event):
        original(run, state, value, event)
        if state.step == 40:
            seen["selected"] = state.selected.weights

    original = boundary.consider
    monkeypatch.setattr(boundary, "evaluate", scripted(values))
    monkeypatch.setattr(boundary, "truncate", truncate)
    monkeypatch.setattr(boundary, "consider", spy)
    record = run_trial(spec, store)["record"]
    assert (record["selected_step"], record["state_dims"]) == (40, [9, 9])
    (before,) = {r["val_before"] for r in table_of(store, spec.trial_id, "truncations")}
    assert before == 0.6
    assert all(torch.equal(seen["selected"][k], v) for k, v in seen["weights"].items())


@pytest.mark.parametrize("penalty", ["exact", "adjoint", "modal"])
def test_a_penalty_of_a_broken_system_is_divergence(penalty, store):
    training = {"steps": 40, "lr": 1e4, "warmup": 0.0}
    spec = trial_spec({"kind": "hankel_regularized", "tau": 0.1, "penalty": penalty},
                      training=training)  # fmt: skip
    assert run_trial(spec, store)["status"] == "diverged"


def test_a_vanishing_weight_trains_the_full_model(store, undisturbed, specs):
    spec = trial_spec({"kind": "hankel_regularized", "state_dims": [16, 12], "weight": 1e-30})
    record = run_trial(spec, store)["record"]
    assert record["val_metric"] == result_of(undisturbed, specs["full"])["record"]["val_metric"]
    model = load(store.trial(spec.trial_id).path)
    assert hankel_nuclear_norm(model, method="exact").item() > 0


@pytest.mark.parametrize(
    "arm",
    [
        {"keep": "smallest"},
        {"keep": "random"},
        {"keep": "random", "moments": "slice"},
        {"moments": "slice"},
        {"rule": "fixed", "final": 4, "keep": "smallest"},
    ],
)
def test_ablations_run_and_keep_the_ranks_of_the_rule(arm, store):
    fixed = {"kind": "in_training", "end": 0.5, "count": 2, "tau": 0.3}
    spec = trial_spec({**fixed, **arm})
    result = run_trial(spec, store)
    assert result["status"] == "completed", result["message"]
    rows = table_of(store, spec.trial_id, "truncations")
    assert all(row["dim_after"] <= row["dim_before"] for row in rows)
    assert all((row["tau"] is None) == (arm.get("rule") == "fixed") for row in rows)
    assert all(0.0 < row["energy_kept"] <= 1.0 for row in rows)
    if "rule" in arm:
        assert result["record"]["state_dims"] == [4, 4]
    first = [row["dim_after"] for row in rows if row["step"] == 30]
    if "rule" not in arm:  # the first ranks are those of the energy, whatever is kept
        largest = run_trial(trial_spec(fixed), store)
        assert largest["status"] == "completed"
        expected = table_of(store, trial_spec(fixed).trial_id, "truncations")
        assert first == [row["dim_after"] for row in expected if row["step"] == 30]


def test_dropping_the_largest_loses_most_energy(store):
    kept = {}
    for keep in ("largest", "random", "smallest"):
        arm = {"kind": "in_training", "rule": "fixed", "final": 6, "end": 0.5, "count": 1}
        spec = trial_spec({**arm, "keep": keep})
        run_trial(spec, store)
        rows = table_of(store, spec.trial_id, "truncations")
        kept[keep] = np.mean([row["energy_kept"] for row in rows])
    assert kept["largest"] > kept["random"] > kept["smallest"]


@pytest.mark.parametrize(
    "arm",
    [
        {"method": "singular_perturbation", "state_dims": [5]},
        {"method": "singular_perturbation", "state_dims": [5], "finetune_steps": 20},
        {"method": "last", "state_dims": [5]},
        {"method": "aire", "mean_dim": 6.0, "scope": "global"},
        {"method": "last", "tau": 0.2},
        {"method": "modal", "mean_dim": 5.0},
        {"method": "random", "mean_dim": 6.0, "scope": "global"},
        {"method": "balanced", "mean_dim": 6.0, "scope": "global"},
    ],
)
def test_every_method_of_compression_ends_with_its_size_and_loads(
    arm, undisturbed, store, monkeypatch
):
    spec = trial_spec({"kind": "post_hoc", **arm})
    copy_source(spec, undisturbed, store)
    result = run_trial(spec, store)
    assert result["status"] == "completed", result["message"]
    record = result["record"]
    if "state_dims" in arm:
        assert record["state_dims"] == [5, 5]
    if "mean_dim" in arm:
        assert record["state_dim_mean"] <= arm["mean_dim"]
    model = load(store.trial(spec.trial_id).path)
    assert model.state_dims == record["state_dims"]
    x, _ = tasks.build(spec.task).examples("test", np.arange(3))
    assert torch.isfinite(model(x)).all()
