"""What a trial records of its model in recurrent mode, and of memory."""

import gc
import sys

import pytest
import torch

from harness.models import load
from harness.training import trial as trial_module
from harness.training.costs import latency
from harness.training.host import machine
from harness.training.trial import run_trial

from ..trials import trial_spec

ARM_NAMES = ("full", "in_training", "post_hoc")
CPU = torch.device("cpu")


@pytest.mark.parametrize("arm", ARM_NAMES)
def test_latency_and_memory_are_those_of_the_selected_model(arm, undisturbed, specs):
    folder = undisturbed.trial(specs[arm].trial_id)
    record = folder.result()["record"]
    # complex64 states, and the float32 pool of 8 channels.
    assert record["state_bytes"] == 8 * record["state_dim_total"] + 4 * 8
    assert load(folder.path).initial_state(1).bytes == record["state_bytes"]
    assert 0 < record["step_latency_seconds"] < record["seconds_evaluate"]


def test_a_diverged_trial_has_neither(store):
    spec = trial_spec({"kind": "full"}, training={"steps": 40, "lr": 1e30, "warmup": 0.0})
    record = run_trial(spec, store)["record"]
    assert record["status"] == "diverged"
    assert record["step_latency_seconds"] is record["state_bytes"] is None


def test_the_time_it_takes_is_on_the_clock_of_evaluations(store, specs, monkeypatch):
    measure = latency.step_latency

    def spy(*arguments):
        seen.append(dict(trials[0].spending.clocks.seconds))
        found = measure(*arguments)
        trials[0].spending.clocks.seconds["evaluate"] += 100.0  # as if it had taken so long
        return found

    seen, trials = [], []
    made = trial_module.RunningTrial.__init__
    monkeypatch.setattr(
        trial_module.RunningTrial,
        "__init__",
        lambda self, *a: trials.append(self) or made(self, *a),
    )
    monkeypatch.setattr(trial_module, "step_latency", spy)
    record = run_trial(specs["full"], store)["record"]
    assert len(seen) == 1
    assert record["seconds_evaluate"] > 100.0
    assert record["seconds_train"] == seen[0]["train"]
    assert record["seconds_total"] > 100.0
    assert record["seconds_method"] < 100.0


def test_few_slow_steps_suffice(undisturbed, specs, monkeypatch):
    monkeypatch.setattr(latency, "WARM_UP_SECONDS", 0.0)
    monkeypatch.setattr(latency, "MEASURED_SECONDS", 0.0)
    folder = undisturbed.trial(specs["full"].trial_id)
    model, steps = load(folder.path), []
    step = model.step
    monkeypatch.setattr(model, "step", lambda *a: steps.append(1) or step(*a))
    task = trial_module.tasks.build(specs["full"].task)
    seconds, _ = latency.step_latency(model, task, CPU)
    assert seconds > 0
    assert len(steps) == 2  # one to warm up, one to measure


def test_the_backends_are_recorded_with_their_reasons(undisturbed, specs):
    folder = undisturbed.trial(specs["full"].trial_id)
    backends = folder.manifest()["backends"]
    assert len(backends) == 2
    assert all(one["name"] and one["reason"] for one in backends)
    assert folder.result()["record"]["backend"] == backends[0]["name"]


def test_a_backend_that_cannot_run_here_is_refused_before_anything_is_written(store):
    if torch.cuda.is_available():
        pytest.skip("it can run here")
    spec = trial_spec({"kind": "full"}, model={"backend": "triton"})
    with pytest.raises(ValueError, match="triton cannot run here"):
        run_trial(spec, store)
    assert not (store.root / "trials").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is only reset on Linux")
def test_the_peak_does_not_remember_what_was_freed():
    """Small pieces, which the C library would keep: what a trial before has left."""
    machine.prepare(CPU, 1)
    before = machine.peak_memory_bytes(CPU)
    pieces = [
        torch.ones(16_000) for _ in range(6000)
    ]  # 384 MB, of which a part may be free already
    assert machine.peak_memory_bytes(CPU) > before + 200e6
    pieces = pieces[-1:]  # the top of the heap stays in use
    gc.collect()
    machine.prepare(CPU, 1)
    assert machine.peak_memory_bytes(CPU) < before + 100e6
    del pieces
