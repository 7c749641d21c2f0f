"""What arms need of a model's layers, and that a trial without it is refused by its spec alone."""

from typing import Literal

import pytest

from harness.arms import Arm
from harness.models.layers.capabilities import Capability
from harness.models.specs import LRUSpec
from harness.suite import Comparison, FullSpec, InTrainingSpec, TaskSpec, TrialSpec

EVERY = frozenset(Capability) - {Capability.SURROGATE}  # which may stand in for a system


def trial(**arm):
    return TrialSpec(task={"name": "digits"}, model={"kind": "lru"}, arm=arm)


@pytest.mark.parametrize(
    ("arm", "needs"),
    [
        ({"kind": "full"}, set()),
        ({"kind": "small", "state_dims": [4]}, set()),
        ({"kind": "distill", "state_dims": [4]}, set()),
        ({"kind": "in_training"}, {Capability.SYSTEM, Capability.MOMENTS}),
        ({"kind": "in_training", "moments": "reset"}, {Capability.SYSTEM}),
        ({"kind": "post_hoc", "tau": 0.1}, {Capability.SYSTEM}),
        (
            {"kind": "post_hoc", "tau": 0.1, "method": "singular_perturbation"},
            {Capability.SYSTEM, Capability.GAIN},
        ),
        ({"kind": "hankel_regularized", "tau": 0.1}, {Capability.SYSTEM, Capability.GRADIENT}),
        ({"kind": "post_hoc", "tau": 0.1, "refit": "BC"}, {Capability.SYSTEM}),
        ({"kind": "post_hoc", "tau": 0.1, "refit": "gain"}, {Capability.SYSTEM, Capability.GAIN}),
        (
            {"kind": "in_training", "moments": "reset", "refit": "C+gain"},
            {Capability.SYSTEM, Capability.GAIN},
        ),
        (
            {"kind": "hankel_regularized", "tau": 0.1, "refit": "BC+gain"},
            {Capability.SYSTEM, Capability.GRADIENT, Capability.GAIN},
        ),
    ],
)
def test_an_arm_needs_this_and_no_more(arm, needs, monkeypatch):
    assert set(trial(**arm).arm.needs) == needs
    monkeypatch.setattr(LRUSpec, "capabilities", frozenset(needs))
    trial(**arm)
    for one in needs:
        monkeypatch.setattr(LRUSpec, "capabilities", EVERY - {one})
        message = f"arm {arm['kind']} needs a layer that {one.does}; lru {one.lacks}"
        with pytest.raises(ValueError, match=message):
            trial(**arm)


def test_a_comparison_refuses_it_too(monkeypatch):
    monkeypatch.setattr(LRUSpec, "capabilities", frozenset())
    arms = {"full": FullSpec(kind="full"), "ours": InTrainingSpec(kind="in_training")}
    with pytest.raises(ValueError, match="needs a layer that gives its system; lru gives none"):
        Comparison(task=TaskSpec(name="digits"), arms=arms)


def test_an_arm_with_ranks_of_its_own_needs_a_system_unless_it_says_otherwise():
    class Halves(Arm):
        kind: Literal["halves"] = "halves"

        def ranks(self, systems, event):
            return [1 for _ in systems]

    assert Halves().needs == (Capability.SYSTEM,)
    assert FullSpec().needs == ()
