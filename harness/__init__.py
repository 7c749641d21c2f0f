"""Compare ways to a small state-space model: suites of trials, run, recorded and compared.

    import harness

    suite = harness.load_suite("demo")
    done = harness.run(suite)
    done.comparison()

Importing this loads nothing: each name below is loaded when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.api.plans import plan
    from harness.api.runs import run, run_trial
    from harness.api.stores import load_model, open_store
    from harness.api.suites import load_suite
    from harness.plugins import arm, layer, rank_rule, task
    from harness.reduction import truncate
    from harness.suite import (
        Comparison,
        DistillSpec,
        FullSpec,
        GRUSpec,
        HankelRegularizedSpec,
        InTrainingSpec,
        LRUSpec,
        Mamba2Spec,
        MambaSpec,
        ModelSpec,
        PostHocSpec,
        S4DSpec,
        S5Spec,
        SmallSpec,
        Suite,
        TaskSpec,
        TrainingSpec,
        TrialSpec,
    )

# Where each name is at home. No name may be that of a room: importing `harness.ROOM` makes the room
# an attribute of this module.
_HOMES = {
    "load_suite": "harness.api.suites",
    "plan": "harness.api.plans",
    "run": "harness.api.runs",
    "run_trial": "harness.api.runs",
    "open_store": "harness.api.stores",
    "load_model": "harness.api.stores",
    "truncate": "harness.reduction",
    "arm": "harness.plugins",
    "layer": "harness.plugins",
    "rank_rule": "harness.plugins",
    "task": "harness.plugins",
}
_HOMES |= dict.fromkeys(("arm", "layer", "rank_rule", "task"), "harness.plugins")
_SPECS = (
    "Suite", "Comparison", "TrialSpec", "TaskSpec", "ModelSpec", "TrainingSpec",
    "LRUSpec", "S5Spec", "S4DSpec", "MambaSpec", "Mamba2Spec", "GRUSpec",
    "FullSpec", "InTrainingSpec", "PostHocSpec", "SmallSpec", "DistillSpec",
    "HankelRegularizedSpec",
)  # fmt: skip
_HOMES |= dict.fromkeys(_SPECS, "harness.suite")

__all__ = [
    "Comparison",
    "DistillSpec",
    "FullSpec",
    "GRUSpec",
    "HankelRegularizedSpec",
    "InTrainingSpec",
    "LRUSpec",
    "Mamba2Spec",
    "MambaSpec",
    "ModelSpec",
    "PostHocSpec",
    "S4DSpec",
    "S5Spec",
    "SmallSpec",
    "Suite",
    "TaskSpec",
    "TrainingSpec",
    "TrialSpec",
    "arm",
    "layer",
    "load_model",
    "load_suite",
    "open_store",
    "plan",
    "rank_rule",
    "run",
    "run_trial",
    "task",
    "truncate",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    found = getattr(importlib.import_module(home), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
