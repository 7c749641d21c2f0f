"""What every arm promises: `harness.arms.base`."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch

from harness.arms import ARM_UNION, Arm, Event
from harness.reduction.hankel import Decomposition, decompose
from harness.suite.specs import TrainingSpec, TrialSpec

from .promise import expect, promised

STATE_DIMS, WIDTH = (6, 4), 3


def check_arm(arm: type[Arm] | Arm, steps: int = 100, evaluate_every: int = 10) -> None:
    """Go through the contract of an arm: its registered spec, or one with options.

    It survives JSON, fits a trial, names steps of the run as its events, answers each with ranks
    from 1 to what a block has, the same for the same systems, and tells by its event keys from
    where on it trains otherwise than another.

    Raises:
        AssertionError: one line that names the arm and what it does not keep.
    """
    spec = _spec_of(arm)
    whose = f"arm {spec.kind}"
    training = TrainingSpec(steps=steps, evaluate_every=evaluate_every)
    with promised(whose, "its spec"):
        _spec(spec, training)
    with promised(whose, "events"):
        _events(spec, training)
    with promised(whose, "ranks"):
        _ranks(spec, training)
    with promised(whose, "event_keys"):
        _keys(spec, training)


def _spec_of(arm: Any) -> Arm:
    if isinstance(arm, Arm):
        return arm
    name = getattr(arm, "__name__", repr(arm))
    expect(
        arm in ARM_UNION.specs.values(),
        f"{name} is no registered arm: decorate it with @harness.arm",
    )
    return arm()  # type: ignore[no-any-return]


def _spec(arm: Arm, training: TrainingSpec) -> None:
    there = json.loads(arm.model_dump_json())
    expect(ARM_UNION.validate(there) == arm, "its spec comes back from JSON as another")
    hash(arm)
    model = {"blocks": len(STATE_DIMS), "width": WIDTH, "state_dim": STATE_DIMS}
    content = {"task": {"name": "digits"}, "model": model, "training": training, "arm": arm}
    trial = TrialSpec.model_validate(content)
    again = TrialSpec.model_validate_json(trial.model_dump_json())
    expect(again.trial_id == trial.trial_id, "a trial of it has another id after JSON")
    own = arm.train_steps(training.steps)
    expect(isinstance(own, int) and own >= 0, f"train_steps is {own!r}")
    expect(arm.lr_factor > 0, f"lr_factor is {arm.lr_factor!r}")


def _events(arm: Arm, training: TrainingSpec) -> None:
    at = arm.happens(training)
    steps = arm.train_steps(training.steps)
    expect(isinstance(at, tuple), f"events are a {type(at).__name__}, not a tuple")
    for step in at:
        inside = type(step) is int and 0 <= step <= max(steps, 0)
        expect(inside, f"event at step {step!r} is none of its {steps} steps")
    expect(list(at) == sorted(set(at)), f"events {at} do not ascend")


def _ranks(arm: Arm, training: TrainingSpec) -> None:
    if arm.sizes_of is not None:
        return  # which a plan sizes first
    systems = _systems()
    at = arm.happens(training)
    for index in range(max(1, len(at))):
        given = [
            arm.ranks(systems, Event(index, len(at), np.random.default_rng(index)))
            for _ in range(2)
        ]
        expect(given[0] == given[1], f"ranks of event {index} differ for the same systems")
        ranks = given[0]
        expect(len(ranks) == len(systems), f"ranks {ranks} are not one for each block")
        for rank, system in zip(ranks, systems, strict=True):
            inside = int(rank) == rank and 1 <= rank <= len(system.hsv)
            expect(inside, f"rank {rank!r} of event {index} is not from 1 to {len(system.hsv)}")


def _systems() -> list[Decomposition]:
    """Decompositions of small systems, one for each block."""
    numbers = np.random.default_rng(0)
    found = []
    for n in STATE_DIMS:
        eigenvalues = numbers.uniform(0.5, 0.95, n) * np.exp(1j * numbers.uniform(0, np.pi, n))
        B = numbers.standard_normal((n, WIDTH)) + 1j * numbers.standard_normal((n, WIDTH))
        C = numbers.standard_normal((WIDTH, n)) + 1j * numbers.standard_normal((WIDTH, n))
        found.append(decompose(*map(torch.from_numpy, (eigenvalues, B, C))))
    return found


def _keys(arm: Arm, training: TrainingSpec) -> None:
    keys, at = arm.event_keys(training), arm.happens(training)
    expect(keys == arm.event_keys(training), "event_keys differ when asked for again")
    steps = [step for step, _ in keys]
    expect(steps == sorted(set(steps)), f"event_keys are of steps {steps}, which do not ascend")
    missing = sorted(set(at) - set(steps))
    expect(not missing, f"event_keys say nothing of the events at steps {missing}")
