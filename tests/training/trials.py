"""Small trials, a process that runs one, and what must be equal between two runs of one."""

from __future__ import annotations

import os
import shutil

import torch

from harness.records.store import Store
from harness.suite import TrialSpec
from harness.training.trial import Execution, Interrupted, run_trial

# Clocks, restarts and memory may differ between a run and its repetition; nothing else may. The
# commit is no number of ours: whoever commits while the tests run changes it.
FREE = {"restarts", "peak_memory_bytes", "exclusive", "git_commit", "step_latency_seconds"}
TABLES = ("curves", "truncations", "spectra")


def trial_spec(arm, *, model=None, training=None, seed=0):
    """Two small blocks on `digits`, 120 steps: about half a second."""
    return TrialSpec(
        task={"name": "digits"},
        model={"blocks": 2, "width": 8, "state_dim": [16, 12], **(model or {})},
        training={"steps": 120, "batch_size": 20, "evaluate_every": 20, **(training or {})},
        arm=arm,
        seed=seed,
    )


def run_in_child(spec_json, root, passed):
    """The body of a process that will be killed: a checkpoint at every chance."""
    os.environ["HARNESS_CHECKPOINT_SECONDS"] = "0"
    torch.set_num_threads(1)
    spec = TrialSpec.model_validate_json(spec_json)
    run_trial(spec, Store.open(root), Execution(progress=lambda _: passed.release()))


def stops_of(spec, store):
    """Run a trial, stopped at every boundary and taken up again; how many stops that were."""
    stops = 0
    while True:
        calls = iter([False, True])
        try:
            run_trial(spec, store, Execution(stop=lambda calls=calls: next(calls)))
        except Interrupted:
            stops += 1
        else:
            return stops


def copy_source(spec, from_store, to_store):
    """Give a `post_hoc` trial the full trial that it starts from."""
    if spec.source() is not None:
        source = spec.source().trial_id
        shutil.copytree(from_store.trial(source).path, to_store.trial(source).path)


def weights_of(store, trial_id):
    trial = store.trial(trial_id)
    place = (trial.result() or {}).get("epoch")  # of the run that ended it, if it took it over
    return (trial.path / (f"epochs/{place}" if place else "") / "model.safetensors").read_bytes()


def table_of(store, trial_id, name):
    """A table's rows without its clocks."""
    rows = store.trial(trial_id).table(name).to_pylist()
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def record_of(result):
    """The fixed part of a record."""
    record = result["record"]
    return {k: v for k, v in record.items() if k not in FREE and not k.startswith("seconds_")}


def assert_same(one, two, trial_id, empty=("truncations",)):
    """Bit-identical weights, tables and record in two stores, clocks apart; tables in `empty` may
    have no rows."""
    assert weights_of(one, trial_id) == weights_of(two, trial_id)
    for name in TABLES:
        rows = table_of(one, trial_id, name)
        assert rows == table_of(two, trial_id, name), name
        assert rows or name in empty
    results = [store.trial(trial_id).result() for store in (one, two)]
    assert record_of(results[0]) == record_of(results[1])
    assert results[0]["status"] == results[1]["status"]
