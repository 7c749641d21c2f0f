"""Own data keep what every task promises: the tests of all others, on these."""

from __future__ import annotations

import numpy as np
import pytest

from harness import tasks
from harness.suite import TaskSpec

from .. import test_contract as contract
from . import test_audio
from .conftest import sequences

CHECKS = (
    contract.test_examples_have_the_shapes_that_info_states,
    contract.test_splits_share_no_example,
    contract.test_spec_knows_shapes_and_size_before_the_data,
)
FIELDS = {
    "arrays": {"path": "mine.npz"},
    "audio_folder": {"path": "calls", "rate": 8000, "length": 500},
    "text_file": {"path": "any.bin", "window": 20, "split_by": "position"},
}


@pytest.fixture
def specs(here):
    x, y = sequences()
    np.savez("mine.npz", x=x, y=y)
    np.random.default_rng(0).integers(0, 256, 6000, dtype=np.uint8).tofile("any.bin")
    test_audio.write(here / "calls", count=40)
    return {name: TaskSpec(name=name, **fields) for name, fields in FIELDS.items()}


@pytest.mark.parametrize("name", FIELDS)
def test_promises(specs, here, monkeypatch, name):
    built = {name: tasks.build(specs[name])}
    specs = {name: specs[name]}
    for check in CHECKS[:2]:
        check(built, name)
    CHECKS[2](built, specs)
    contract.test_fingerprint_is_stable_and_follows_the_split_seed(built, specs, None, name)
    contract.test_summary_is_json_and_counts_every_example(built, name, monkeypatch)
    contract.test_sample_is_written_and_is_what_its_name_says(built, name, here)
    assert set(FIELDS) == {spec.task_name() for spec in contract.OWN}
