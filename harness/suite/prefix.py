"""What two trials have in common: the steps that both would take in the same way.

Trials of one family differ in their arm only. Before the first step at which their acts differ,
they are the same run, so that part need be trained only once.
"""

from __future__ import annotations

import json

from .specs import TrialSpec, deciding


def family(trial: TrialSpec) -> str | None:
    """What all trials share that could have a beginning in common; None for one that has no
    beginning of its own, since it starts from another trial's model."""
    if trial.arm.needs_full:
        return None
    return json.dumps(deciding(trial, "arm"), sort_keys=True)


def shared_steps(one: TrialSpec, two: TrialSpec) -> int:
    """How many optimizer steps two trials of one family take alike, from the start.

    What is done right behind the last of them, a truncation say, is no longer shared.
    """
    steps = one.training.steps
    here, there = one.arm.acts(one.training), two.arm.acts(two.training)
    common = next(
        (i for i, (a, b) in enumerate(zip(here, there, strict=False)) if a != b),
        min(len(here), len(there)),
    )
    return min((acts[common][0] for acts in (here, there) if len(acts) > common), default=steps)
