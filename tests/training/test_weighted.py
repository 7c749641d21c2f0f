"""Trials whose truncation is weighted by the signal or the task."""

import pytest

from harness import tasks
from harness.suite import TrialSpec
from harness.tasks.specs.embedded import DigitsSpec
from harness.training.calibration import Examples, calibration_of
from harness.training.costs.flops import forward_flops, second_moment_flops, spectrum_flops
from harness.training.trial import run_trial

from .trials import table_of, trial_spec, weights_of

DIGITS = tasks.build(trial_spec({"kind": "full"}).data).info
TASK = {"gramians": "task", "calibration": 40}


def test_looking_at_the_task_changes_nothing_where_nothing_is_cut(store):
    full = trial_spec({"kind": "full"}, model={"dropout": 0.1})
    looks = trial_spec({"kind": "in_training", "tau": 0.0, **TASK}, model={"dropout": 0.1})
    for spec in (full, looks):
        assert run_trial(spec, store)["status"] == "completed"
    assert weights_of(store, full.trial_id) == weights_of(store, looks.trial_id)


@pytest.mark.parametrize(
    "arm",
    [
        {"kind": "in_training", "tau": 0.2, "end": 0.5},
        {"kind": "post_hoc", "state_dims": [5]},
        {"kind": "hankel_regularized", "tau": 0.3},
    ],
)
def test_every_truncating_arm_takes_them_and_records_what_it_did(arm, store):
    spec = trial_spec({**arm, **TASK})
    if spec.source() is not None:
        run_trial(spec.source(), store)
    result = run_trial(spec, store)
    assert result["status"] == "completed", result["message"]
    rows = table_of(store, spec.trial_id, "truncations")
    assert rows
    for row in rows:
        assert row["gramians"] == "signal/task"
        if row["dim_after"] < row["dim_before"]:
            assert row["error_bound"] is None
            assert 0.0 < row["output_error"] < 1.5
            sigma = row["weighted_singular_values"]
            assert sigma == sorted(sigma, reverse=True)
            assert len(sigma) == row["dim_before"]
    plain = trial_spec(arm)
    run_trial(plain, store)
    if arm["kind"] == "post_hoc":  # the same sizes, so that the rest of the cost is the same
        plain_cost, cost = (
            store.trial(one.trial_id).result()["record"]["flops_method"] for one in (plain, spec)
        )
        assert cost - plain_cost > 40 * 64 * 2 * 8 * (16**2 + 12**2)  # two Gramians of each block
    assert all(row["gramians"] is None for row in table_of(store, plain.trial_id, "truncations"))


def test_the_cost_of_looking_is_that_of_its_parts(store):
    arm = {"kind": "post_hoc", "state_dims": [5]}
    plain, spec = trial_spec(arm), trial_spec({**arm, **TASK})
    run_trial(spec.source(), store)
    costs = []
    for one in (plain, spec):
        run_trial(one, store)
        costs.append(store.trial(one.trial_id).result()["record"]["flops_method"])
    examples, held_out, sizes = 40, 10, (16, 12)
    info = spec.task.info
    forward = forward_flops(spec.model, info, sizes)
    moments = sum(4 * n * 8 + 8 * n + 8 * n * n for n in sizes)
    outputs = sum(4 * (n + 5) * (8 + 8) + 8 * (n + 5) for n in sizes)
    looking = examples * (3 * forward + 2 * info.length * moments)
    looking += held_out * (forward + info.length * outputs)
    looking += sum(spectrum_flops(n, 8) for n in sizes)
    assert costs[1] - costs[0] == pytest.approx(looking, rel=1e-9)


def test_the_cost_of_the_inputs_covariance_is_that_of_its_parts(store):
    arm = {"kind": "post_hoc", "state_dims": [5]}
    plain, spec = trial_spec(arm), trial_spec({**arm, "gramians": "input", "calibration": 40})
    run_trial(spec.source(), store)
    costs = []
    for one in (plain, spec):
        run_trial(one, store)
        costs.append(store.trial(one.trial_id).result()["record"]["flops_method"])
    examples, held_out, sizes, width = 40, 10, (16, 12), 8
    info = spec.task.info
    forward = forward_flops(spec.model, info, sizes)
    looking = examples * (forward + info.length * len(sizes) * 2 * width**2)
    outputs = sum(4 * (n + 5) * (width + width) + 8 * (n + 5) for n in sizes)
    looking += held_out * (forward + info.length * outputs)
    looking += sum(spectrum_flops(n, width) for n in sizes)
    assert costs[1] - costs[0] == pytest.approx(looking, rel=1e-9)


@pytest.mark.parametrize("method", ["last", "aire"])
def test_rivals_scores_are_measured_and_their_rows_say_so(method, store):
    arm = {"kind": "post_hoc", "method": method, "scope": "global", "mean_dim": 5.0}
    plain, measured = trial_spec(arm), trial_spec({**arm, **TASK})
    assert plain.trial_id != measured.trial_id
    run_trial(plain.source(), store)
    rows = {}
    for spec in (plain, measured):
        assert run_trial(spec, store)["status"] == "completed"
        rows[spec] = table_of(store, spec.trial_id, "truncations")
        assert sum(row["dim_after"] for row in rows[spec]) == 10
    for row in rows[measured]:
        assert row["gramians"] == "signal/task"
        assert 0.0 < row["output_error"] < 2.0
        assert row["error_bound"] > 0.0
        assert len(row["weighted_singular_values"]) == row["dim_before"]
    assert all(row["gramians"] is None for row in rows[plain])
    assert weights_of(store, plain.trial_id) != weights_of(store, measured.trial_id)


def test_ids_of_white_trials_are_those_of_trials_that_say_nothing():
    plain = trial_spec({"kind": "in_training"})
    white = trial_spec({"kind": "in_training", "gramians": "white", "calibration": 256})
    assert plain.trial_id == white.trial_id
    assert "gramians" not in white.model_dump(mode="json")["arm"]
    assert "calibration" not in white.model_dump(mode="json")["arm"]
    assert plain.trial_id != trial_spec({"kind": "in_training", "gramians": "horizon"}).trial_id


def test_ids_do_not_know_of_the_sweep_where_all_are_measured_together():
    plain = trial_spec({"kind": "in_training", **TASK})
    said = trial_spec({"kind": "in_training", "sweep": "together", **TASK})
    assert said.trial_id == plain.trial_id
    assert "sweep" not in said.model_dump(mode="json")["arm"]
    assert trial_spec({"kind": "in_training", "sweep": "in_order", **TASK}).trial_id != (
        plain.trial_id
    )


def test_a_sweep_has_the_sizes_of_the_whole_and_costs_what_its_passes_cost(store):
    rows, costs = [], []
    for sweep in ("together", "in_order"):
        spec = trial_spec({"kind": "post_hoc", "tau": 0.2, "sweep": sweep, **TASK})
        if not store.trial(spec.source().trial_id).ended():
            run_trial(spec.source(), store)
        result = run_trial(spec, store)
        assert result["status"] == "completed", result["message"]
        rows.append(table_of(store, spec.trial_id, "truncations"))
        costs.append(result["record"]["flops_method"])
    sizes, again = ([row["dim_after"] for row in some] for some in rows)
    assert sizes == again
    first, second = rows
    assert first[0] == {**second[0], **{k: first[0][k] for k in ("trial_id", "val_after")}}
    assert first[1]["weighted_singular_values"] != second[1]["weighted_singular_values"]
    # One more forward and backward pass of 40 sequences of 64 steps, with block 0 already small,
    # the second moments of block 1 on both sides, and its decomposition.
    forward = forward_flops(spec.model, DIGITS, [sizes[0], 12])
    moments = second_moment_flops(12, 8)
    wanted = 40 * (3 * forward + 2 * 64 * moments) + spectrum_flops(12, 8)
    assert costs[1] - costs[0] == pytest.approx(wanted, rel=1e-9)


def test_a_bound_on_the_loss_is_met_in_order_and_its_candidates_are_paid(store):
    costs = []
    for sweep in ("together", "in_order"):
        arm = {"kind": "post_hoc", "max_loss": 0.02, "sweep": sweep, **TASK}
        spec = trial_spec(arm)
        if not store.trial(spec.source().trial_id).ended():
            run_trial(spec.source(), store)
        result = run_trial(spec, store)
        assert result["status"] == "completed", result["message"]
        costs.append(result["record"]["flops_method"])
    assert costs[1] > costs[0] + 2 * 40 * 3 * forward_flops(spec.model, DIGITS, [1, 12])


def test_calibration_is_training_data_drawn_by_seed_and_step(store, monkeypatch):
    from harness.training import calibration as module

    seen = []

    def heard(context, state):
        found = calibration_of(context, state)
        seen.append((state.step, found.batches, found.held_out))
        return found

    monkeypatch.setattr(module, "calibration_of", heard)
    asked = []
    take = Examples.__iter__
    monkeypatch.setattr(Examples, "__iter__", lambda self: asked.append(self) or take(self))
    spec = trial_spec({"kind": "in_training", "tau": 0.2, "end": 0.5, "count": 2, **TASK})
    run_trial(spec, store)
    steps = {step for step, _, _ in seen}
    assert len(steps) == 2
    drawn = {}
    for step, batches, rest in seen:
        assert len(batches.indices) == 40
        assert len(rest.indices) == 10
        assert not set(batches.indices) & set(rest.indices)
        same = drawn.setdefault(step, tuple(batches.indices))
        assert same == tuple(batches.indices)
    assert len(set(drawn.values())) == 2
    assert asked


def test_more_calibration_than_training_data_is_refused_before_anything_is_written(
    store, monkeypatch
):
    arm = {"kind": "in_training", "gramians": "signal", "calibration": 100_000}
    message = r"arm\.calibration 100000 needs 125000 training examples"
    with pytest.raises(ValueError, match=message):
        trial_spec(arm)
    monkeypatch.setattr(DigitsSpec, "train_size", None)  # as of data that must be read first
    spec = trial_spec(arm)
    with pytest.raises(ValueError, match=message):
        run_trial(spec, store)
    assert not store.trial(spec.trial_id).path.exists()


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"kind": "in_training", "gramians": "loud"}, "gramians"),
        ({"kind": "in_training", "gramians": "task", "keep": "random"}, "gramians other than"),
        ({"kind": "post_hoc", "mean_dim": 3, "gramians": "task", "method": "modal"}, "with modal"),
        ({"kind": "in_training", "gramians": "task", "calibration": 0}, "calibration"),
        ({"kind": "in_training", "sweep": "in_order"}, "sweep 'in_order' needs gramians that are"),
        (
            {"kind": "post_hoc", "tau": 0.1, "gramians": "horizon", "sweep": "in_order"},
            "horizon/horizon is the same whatever a block hears",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_its_spec(arm, message):
    with pytest.raises(ValueError, match=message):
        TrialSpec(task={"name": "digits"}, model={"kind": "lru"}, arm=arm)


@pytest.mark.parametrize("gramians", ["white", "task"])
def test_a_bound_on_the_loss_gives_the_sizes_of_train_then_compress(gramians, store):
    sizes = []
    for max_loss in (0.02, 100.0):
        arm = {"kind": "post_hoc", "max_loss": max_loss, "gramians": gramians, "calibration": 40}
        spec = trial_spec(arm)
        if not store.trial(spec.source().trial_id).ended():
            run_trial(spec.source(), store)
        assert run_trial(spec, store)["status"] == "completed"
        rows = table_of(store, spec.trial_id, "truncations")
        sizes.append([row["dim_after"] for row in rows])
    assert sum(sizes[0]) > sum(sizes[1])
    assert sizes[1] == [1, 1]


def test_a_bound_below_zero_is_refused():
    with pytest.raises(ValueError, match="max_loss"):
        trial_spec({"kind": "post_hoc", "max_loss": -0.1})
