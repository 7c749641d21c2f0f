"""Shared by all tests: one thread, so that sums and timings do not depend on the machine."""

import sys
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)
sys.path.insert(0, str(Path(__file__).parent / "reduction"))


@pytest.fixture
def plugged(monkeypatch):
    """What a test registers is gone after it; it begins with nothing but ours."""
    from harness import spec
    from harness.arms import ARM_UNION, in_training, rank_rules
    from harness.models.specs import MODEL_UNION
    from harness.plugins import registry
    from harness.suite import bring
    from harness.tasks.specs import TASK_UNION

    monkeypatch.setattr(registry, "_plugins", {})
    monkeypatch.setattr(bring, "_brought", set())
    monkeypatch.setattr(spec, "_faults", None)
    monkeypatch.setattr(rank_rules, "RULES", rules := dict(rank_rules.RULES))
    monkeypatch.setattr(in_training, "RULES", rules)
    for union in (ARM_UNION, MODEL_UNION, TASK_UNION):
        monkeypatch.setattr(union, "specs", dict(union.specs))
        monkeypatch.setattr(union, "_replaced", {})
        monkeypatch.setattr(union, "_adapter", None)
    return registry
