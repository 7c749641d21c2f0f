"""Forks: starting a trial from another's state, and keeping states for others to start from."""

from __future__ import annotations

import json
import time
from typing import Any

from pydantic import ValidationError

from harness.records.store import TrialDir
from harness.suite.fork_family import common_steps
from harness.suite.specs import TrialSpec

from .costs.clocks import Clocks
from .costs.spending import Forked, Spending
from .facts import TrialFacts
from .host import machine
from .host.faults import described
from .state import MISFITS, RunState, pack, unpack


def begin_at(
    parent: TrialDir, step: int, facts: TrialFacts, state: RunState, seconds_setup: float
) -> Spending | None:
    """Bring the state to where a trial forks from `parent`, and return its cost so far; None if it
    must start from step 0.

    Raises:
        ValueError: the two trials differ before that step, or the kept state is damaged.
    """
    kept = parent.load_fork(step)
    if kept is None:
        return None
    tensors, plain = kept
    try:
        spec = spec_of(plain["spec"])
    except (KeyError, ValidationError) as error:
        raise parent.damaged_fork(step, described(error)) from None
    if common_steps(spec, facts.spec) < step:
        raise ValueError(f"trial {parent.trial_id} is another run by step {step}")
    if machine.difference(plain, facts.manifest) is not None:
        return None  # its bits differ from what this machine would give
    try:
        unpack(state, tensors, plain["state"])
        clocks = Clocks(facts.device, plain["clocks"])
        seconds = clocks.total - seconds_setup  # its setup was paid here as well
        forked = Forked(parent.trial_id, state.train_flops, seconds, plain["exclusive"])
    except MISFITS as error:
        raise parent.damaged_fork(step, described(error)) from None
    return Spending(clocks, forked=forked)


def keep_for_forks(
    folder: TrialDir, facts: TrialFacts, spending: Spending, exclusive: bool, state: RunState
) -> None:
    """Keep a state that others fork from, with its cost, not counting the keeping."""
    start = time.perf_counter()
    with spending.clocks("checkpoint"):
        tensors, plain = pack(state)
        seconds = dict(spending.clocks.seconds)
        seconds["checkpoint"] -= spending.keeping
        content = {
            "state": plain,
            "clocks": seconds,
            "spec": facts.spec.model_dump(mode="json"),
            **{key: facts.manifest[key] for key in machine.DECIDING},
            "exclusive": exclusive,
        }
        folder.save_fork(state.step, tensors, content)
    spending.keeping += time.perf_counter() - start


def spec_of(content: dict[str, Any]) -> TrialSpec:
    """The spec that was stored as JSON."""
    # Strict validation accepts a list for a tuple only from JSON.
    return TrialSpec.model_validate_json(json.dumps(content))
