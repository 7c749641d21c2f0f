"""Trials whose products are not in float32."""

import pytest

from harness.records.store import Store
from harness.training.trial import Execution, Interrupted, run_trial

from .trials import assert_same, trial_spec, weights_of

ARM = {"kind": "in_training", "tau": 0.1, "start": 0.0, "end": 0.5, "count": 2}


def spec_of(precision):
    return trial_spec(ARM, model={"precision": precision})


def losses_of(store, spec):
    rows = store.trial(spec.trial_id).table("curves").to_pylist()
    return [row["value"] for row in rows if row["metric"] == "loss"]


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """(store, result) of the same trial in each precision."""
    root = tmp_path_factory.mktemp("precisions")
    stores = {p: Store.open(str(root / p)) for p in ("fp32", "bf16", "tf32")}
    return {p: (store, run_trial(spec_of(p), store)) for p, store in stores.items()}


def test_bf16_trains_as_well(ended):
    records = {p: result["record"] for p, (_, result) in ended.items()}
    assert records["bf16"]["status"] == "completed"
    assert records["bf16"]["val_metric"] == pytest.approx(records["fp32"]["val_metric"], abs=0.1)
    losses = {p: losses_of(store, spec_of(p)) for p, (store, _) in ended.items()}
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.1)
    assert losses["bf16"][-1] < 0.95 * losses["bf16"][0]


def test_the_manifest_says_what_was_in_force(ended):
    said = {p: s.trial(spec_of(p).trial_id).manifest()["precision"] for p, (s, _) in ended.items()}
    assert said == {"fp32": "fp32", "bf16": "bf16", "tf32": "fp32"}


def test_tf32_on_a_cpu_has_the_numbers_of_fp32(ended):
    one, two = ((store, spec_of(p).trial_id) for p, (store, _) in ended.items() if p != "bf16")
    assert one[1] != two[1]
    assert weights_of(*one) == weights_of(*two)


def test_bf16_interrupted_ends_bit_identical(ended, store):
    spec = spec_of("bf16")
    stops = 0
    while not store.trial(spec.trial_id).ended():
        passed = []
        setting = Execution(passed.append, stop=lambda passed=passed: len(passed) == 3)
        try:
            run_trial(spec, store, setting)
        except Interrupted:
            stops += 1
    assert stops > 1
    assert_same(ended["bf16"][0], store, spec.trial_id)
