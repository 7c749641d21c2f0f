"""Beginning where another trial is, and keeping the states that others begin with."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from harness.suite.prefix import shared_steps
from harness.suite.specs import TrialSpec

from . import machine
from .clocks import Clocks
from .faults import described
from .state import MISFITS, RunState, pack, unpack

if TYPE_CHECKING:
    from .trial import Trial


def part(trial: Trial, state: RunState, seconds_setup: float) -> bool:
    """Begin where the trial parts from another; False where it must begin at step 0."""
    fork = trial.setting.fork
    kept = trial.store.trial(fork.trial_id).load_fork(fork.step) if fork else None
    if fork is None or kept is None:
        return False
    tensors, plain = kept
    try:
        parent = spec_of(plain["spec"])
    except (KeyError, ValidationError) as error:
        raise trial.store.trial(fork.trial_id).damaged_fork(fork.step, described(error)) from None
    if shared_steps(parent, trial.spec) < fork.step:
        raise ValueError(f"trial {fork.trial_id} is another run by step {fork.step}")
    if machine.difference(plain, trial.manifest) is not None:
        return False  # other bits than this machine would give
    try:
        unpack(state, tensors, plain["state"])
        trial.clocks = Clocks(trial.device, plain["clocks"])
        trial.forked = {
            "trial_id": fork.trial_id,
            "flops": state.train_flops,
            "seconds": trial.clocks.total - seconds_setup,  # its own setup was spent here, too
            "exclusive": plain["exclusive"],
        }
    except MISFITS as error:
        raise trial.store.trial(fork.trial_id).damaged_fork(fork.step, described(error)) from None
    return True


def keep(trial: Trial, state: RunState) -> None:
    """Keep a state that others part from, with what it cost without the keeping."""
    start = time.perf_counter()
    with trial.clocks("checkpoint"):
        tensors, plain = pack(state)
        seconds = dict(trial.clocks.seconds)
        seconds["checkpoint"] -= trial.keeping
        content = {
            "state": plain,
            "clocks": seconds,
            "spec": trial.spec.model_dump(mode="json"),
            **{key: trial.manifest[key] for key in machine.DECIDING},
            "exclusive": trial.exclusive,
        }
        trial.folder.save_fork(state.step, tensors, content)
    trial.keeping += time.perf_counter() - start


def spec_of(content: dict[str, Any]) -> TrialSpec:
    """The spec that was stored as JSON."""
    # Strict validation takes a list for a tuple from JSON only.
    return TrialSpec.model_validate_json(json.dumps(content))
