"""A small study, and a store for it."""

from __future__ import annotations

from typing import Any

import pytest

from harness.records.store import Store
from harness.suite import InTrainingSpec, LRUSpec, TaskSpec, TrainingSpec, TrialSpec
from harness.tune import Budget, Floats, Ints, Setting, Space, Study

PAPER = Setting(start=0.0, end=0.1, count=4, tau=0.1)


def fields(**changes: Any) -> dict[str, Any]:
    """What a small study is made of: 1,000 validation examples, 500 steps, 50 grid points."""
    base = TrialSpec(
        task=TaskSpec(name="vowels", length=64, train=100, validation=1000, test=100),
        model=LRUSpec(blocks=1, width=4, state_dim=8),
        training=TrainingSpec(steps=500, batch_size=10),
        arm=InTrainingSpec(kind="in_training"),
    )
    space = Space(
        start=Floats(low=0.02, high=0.5),
        length=Floats(low=0.04, high=0.4),
        count=Ints(low=1, high=6),
        tau=Floats(low=0.01, high=0.5, log=True),
        options={"moments": ("transport", "reset")},
    )
    made = {
        "name": "timing", "base": base, "space": space, "seeds": (0, 1), "confirm_seeds": (5, 6),
        "goal": "constrained", "margin": 0.02, "startup": 3, "enqueue": (PAPER,), "batch": 3,
        "budget": Budget(candidates=9),
    }  # fmt: skip
    made |= changes
    if made["goal"] == "pareto" and "margin" not in changes:
        made["margin"] = None
    return made


@pytest.fixture
def make_study():
    """`make_study(**changes)`: the small study with other fields."""
    return lambda **changes: Study(**fields(**changes))


@pytest.fixture
def store(tmp_path) -> Store:
    return Store.open(tmp_path / "store")
