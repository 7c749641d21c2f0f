"""When and to which ranks an in-training arm truncates."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from harness.arms import InTrainingSpec
from harness.suite import TrialSpec


def arm(**fields):
    return InTrainingSpec(kind="in_training", **fields)


@pytest.mark.parametrize(
    ("fields", "steps", "events"),
    [
        ({}, 600, (15, 30, 45, 60)),
        ({"start": 0.2, "end": 0.6, "count": 2}, 100, (40, 60)),
        ({"start": 0.05, "end": 0.3, "count": 3}, 100, (13, 22, 30)),  # 13.3, 21.7, 30
        ({"start": 0.0, "end": 1.0, "count": 4}, 10, (2, 5, 8, 10)),  # 2.5 and 7.5, to even
        ({"start": 0.3, "end": 0.3, "count": 1}, 50, (15,)),  # a window of one moment
        ({"end": 1.0, "count": 1}, 600, (600,)),
        # The published sCIFAR run: every 4500 of the first 18000 of 180000 steps.
        ({}, 180_000, (4500, 9000, 13500, 18000)),
    ],
)
def test_events_by_hand(fields, steps, events):
    assert arm(**fields).events(steps) == events


@pytest.mark.parametrize("steps", [97, 600, 12_345])
@pytest.mark.parametrize(("start", "end", "count"), [(0.0, 0.1, 4), (0.13, 0.71, 7), (0.5, 1.0, 3)])
def test_events_follow_the_window(start, end, count, steps):
    at = arm(start=start, end=end, count=count).events(steps)
    exact = [steps * (start + (end - start) * k / count) for k in range(1, count + 1)]
    assert len(at) == count
    assert max(abs(a - e) for a, e in zip(at, exact, strict=True)) <= 0.5
    assert at[-1] == round(end * steps)
    assert list(at) == sorted(set(at))


@pytest.mark.parametrize(
    ("fields", "steps", "message"),
    [
        ({}, 20, r"`count` 4 .* of 20 steps fall on steps 0, 1, 2, 2: .* different and not 0"),
        ({"count": 1, "end": 0.01}, 40, r"`end` 0\.01 of 40 steps fall on steps 0: "),
        ({"start": 0.5, "end": 0.5, "count": 2}, 600, r"fall on steps 300, 300: "),
        ({"count": 99}, 600, r"0\.1 of 600 steps fall on steps 1, 1, 2, 2, \.\.\.: "),
        ({"count": 10**12}, 600, r"fall on steps 0, 0, 0, 0, \.\.\.: "),  # and at once
        ({"start": 0.5, "end": 0.2}, 600, r"window ends at 0\.2, before its start at 0\.5"),
    ],
)
def test_events_that_coincide_or_cannot_be_are_refused(fields, steps, message):
    with pytest.raises(ValueError, match=message):
        arm(**fields).events(steps)
    # A trial knows its steps, so it is refused before anything runs.
    with pytest.raises(ValidationError, match=message):
        TrialSpec(task={"name": "digits"}, training={"steps": steps}, arm=arm(**fields))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"tau": 1.0}, "tau"),
        ({"tau": -0.1}, "tau"),
        ({"tau": float("nan")}, "tau"),
        ({"tau": "0.1"}, "tau"),
        ({"start": -0.1}, "start"),
        ({"end": 1.1}, "end"),
        ({"count": 0}, "count"),
        ({"count": 2.0}, "count"),
        ({"gate": 1.0}, "gate"),
        ({"gate": -0.05}, "gate"),
        ({"keep": "smallest"}, "keep"),
        ({"moments": "slice"}, "moments"),
        ({"taus": 0.1}, "taus"),
    ],
)
def test_bad_values_are_refused_by_name(fields, named):
    with pytest.raises(ValidationError) as refused:
        arm(**fields)
    assert [error["loc"] for error in refused.value.errors()] == [(named,)]
    with pytest.raises(ValidationError) as refused:
        TrialSpec(task={"name": "digits"}, arm={"kind": "in_training", **fields})
    assert [e["loc"] for e in refused.value.errors()] == [("arm", "in_training", named)]


SPECTRA = [np.array([4.0, 3.0, 2.0, 1.0]), np.array([97.0, 1.0, 1.0, 0.5, 0.5])]


@pytest.mark.parametrize(
    ("tau", "ranks"), [(0.0, [4, 5]), (0.01, [4, 3]), (0.1, [3, 1]), (0.3, [2, 1]), (0.9, [1, 1])]
)
def test_ranks_keep_the_energy_of_each_block_by_itself(tau, ranks):
    assert arm(tau=tau).ranks(SPECTRA) == ranks
    assert arm(tau=tau).ranks([torch.from_numpy(s) for s in SPECTRA]) == ranks


def spectrum(n, rank):
    """N values of which energy asks for `rank`."""
    return np.array([1.0] * rank + [1e-9] * (n - rank))


@pytest.mark.parametrize(
    ("gate", "n", "rank", "given"),
    [
        (0.05, 100, 94, 94),  # 6 %
        (0.05, 100, 95, 100),  # exactly 5 % is not below 95, as in the published code
        (0.05, 100, 96, 100),
        (0.05, 64, 60, 60),  # 60 < 60.8
        (0.05, 64, 61, 64),
        (0.05, 10, 9, 9),
        (0.0, 100, 99, 99),  # no gate: a single state is enough
        (0.0, 100, 100, 100),
        (0.5, 10, 5, 10),
        (0.5, 10, 4, 4),
    ],
)
def test_the_gate_leaves_small_gains_alone(gate, n, rank, given):
    assert arm(tau=1e-6).ranks([spectrum(n, rank)]) == [rank]
    assert arm(tau=1e-6, gate=gate).ranks([spectrum(n, rank)]) == [given]


def test_the_gate_is_each_blocks_own():
    spectra = [spectrum(100, 96), spectrum(100, 50)]
    assert arm(tau=1e-6, gate=0.05).ranks(spectra) == [100, 50]


@pytest.mark.parametrize(
    ("bad", "message"), [(np.zeros(3), "zero"), (np.array([np.nan]), "finite")]
)
def test_a_spectrum_that_says_nothing_is_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        arm(tau=0.1).ranks([SPECTRA[0], bad])


def test_it_trains_all_steps_from_scratch():
    assert arm().train_steps(600) == 600
    assert arm().needs_full is False
