"""Which trials can fork from one another, and after how many steps.

Trials of one family differ only in their arm. They are the same run up to the first step at which
their events differ, so those steps need to be trained only once: one trial forks from the other.
"""

from __future__ import annotations

import json

from .specs import TrialSpec, deciding


def family(trial: TrialSpec) -> str | None:
    """A key that is equal for trials that may fork from one another; None for a trial that starts
    from another trial's model."""
    if trial.arm.needs_full:
        return None
    content = deciding(trial, "arm")
    content["initial_dims"] = list(trial.built.state_dims)
    return json.dumps(content, sort_keys=True)


def common_steps(one: TrialSpec, two: TrialSpec) -> int:
    """How many optimizer steps, from the start, are the same in two trials of one family.

    What follows the last of them, such as a truncation, may differ.
    """
    steps = one.training.steps
    here, there = one.arm.event_keys(one.training), two.arm.event_keys(two.training)
    common = next(
        (i for i, (a, b) in enumerate(zip(here, there, strict=False)) if a != b),
        min(len(here), len(there)),
    )
    return min((keys[common][0] for keys in (here, there) if len(keys) > common), default=steps)
