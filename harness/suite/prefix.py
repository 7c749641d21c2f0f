"""What two trials have in common: the steps that both would take in the same way.

Trials of one family differ in their arm only. Before the first step at which their events differ,
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
    content = deciding(trial, "arm")
    content["initial_dims"] = list(trial.built.state_dims)
    return json.dumps(content, sort_keys=True)


def shared_steps(one: TrialSpec, two: TrialSpec) -> int:
    """How many optimizer steps two trials of one family take alike, from the start.

    What is done right after the last of them, a truncation say, is no longer shared.
    """
    steps = one.training.steps
    here, there = one.arm.event_keys(one.training), two.arm.event_keys(two.training)
    common = next(
        (i for i, (a, b) in enumerate(zip(here, there, strict=False)) if a != b),
        min(len(here), len(there)),
    )
    return min((keys[common][0] for keys in (here, there) if len(keys) > common), default=steps)
