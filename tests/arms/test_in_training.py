"""When and to which ranks an in-training arm truncates."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from harness.arms import Event, InTrainingSpec
from harness.suite import TrainingSpec, TrialSpec
from tests.reduction.systems import with_hsv


def arm(**fields):
    return InTrainingSpec(kind="in_training", **fields)


def ranks(arm, spectra, event=None):
    return arm.ranks([with_hsv(*hsv) for hsv in spectra], event or Event())


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
        ({"count": 100_000}, 600, r"fall on steps 0, 0, 0, 0, \.\.\.: "),  # and at once
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
        ({"keep": "some"}, "keep"),
        ({"moments": "copy"}, "moments"),
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
    ("tau", "given"), [(0.0, [4, 5]), (0.01, [4, 3]), (0.1, [3, 1]), (0.3, [2, 1]), (0.9, [1, 1])]
)
def test_ranks_keep_the_energy_of_each_block_by_itself(tau, given):
    assert ranks(arm(tau=tau), SPECTRA) == given
    assert ranks(arm(tau=tau), [torch.from_numpy(s) for s in SPECTRA]) == given


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
    assert ranks(arm(tau=1e-6), [spectrum(n, rank)]) == [rank]
    assert ranks(arm(tau=1e-6, gate=gate), [spectrum(n, rank)]) == [given]


def test_the_gate_is_each_blocks_own():
    spectra = [spectrum(100, 96), spectrum(100, 50)]
    assert ranks(arm(tau=1e-6, gate=0.05), spectra) == [100, 50]


@pytest.mark.parametrize(
    ("bad", "message"), [(np.zeros(3), "zero"), (np.array([np.nan]), "finite")]
)
def test_a_spectrum_that_says_nothing_is_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        ranks(arm(tau=0.1), [SPECTRA[0], bad])


def test_it_trains_all_steps_from_scratch():
    assert arm().train_steps(600) == 600
    assert arm().needs_full is False


def cuts(sizes, count, **fields):
    """The sizes after each of `count` events of a rule that asks for no spectrum."""
    one = arm(count=count, **fields)
    history = []
    for index in range(count):
        sizes = ranks(one, [np.ones(n) for n in sizes], Event(index, count))
        history.append(sizes)
    return history


def test_the_fixed_rule_takes_a_fraction_of_what_is_left():
    # int(n * 0.9): the published code's cut.
    assert cuts([256, 10, 1], 3, rule="fixed") == [[230, 9, 1], [207, 8, 1], [186, 7, 1]]
    assert cuts([64], 2, rule="pragmatic", fraction=0.5) == [[32], [16]]


def test_the_fixed_rule_reaches_its_final_size_in_equal_cuts():
    # The paper's ablation: 256 to 32 in four cuts of 56.
    assert cuts([256], 4, rule="fixed", final=32) == [[200], [144], [88], [32]]
    assert cuts([64], 1, rule="fixed", final=8) == [[8]]
    assert cuts([30, 8, 5], 3, rule="fixed", final=8) == [[23, 8, 5], [16, 8, 5], [8, 8, 5]]
    assert [sizes[0] for sizes in cuts([64], 16, rule="fixed", final=8)][-1] == 8


def test_equal_cuts_part_where_their_numbers_do():
    training = TrainingSpec(steps=600, evaluate_every=100)
    once, twice = (
        arm(rule="fixed", final=8, start=0.0, end=end, count=count).event_keys(training)
        for end, count in ((0.25, 1), (0.5, 2))
    )
    assert [step for step, _ in once] == [150]
    assert [step for step, _ in twice] == [150, 300]
    assert once[0] != twice[0]  # a cut to the end and one half the way
    by_tau = [arm(start=0.0, end=e, count=c).event_keys(training) for e, c in ((0.25, 1), (0.5, 2))]
    assert by_tau[0][0] == by_tau[1][0]


@pytest.mark.parametrize("rule", ["energy", "pragmatic"])
def test_a_final_size_belongs_to_the_fixed_rule(rule):
    with pytest.raises(ValidationError, match=f"`final` belongs to rule fixed, not to {rule}"):
        arm(rule=rule, final=8)


def test_a_final_size_fits_the_model():
    with pytest.raises(ValidationError, match=r"arm\.final 65 is larger than a block .* 64"):
        TrialSpec(task={"name": "digits"}, arm=arm(rule="fixed", final=65))


@pytest.mark.parametrize(
    ("protocol", "every", "steps", "fields", "at"),
    [
        # The published runs, by the research code and by the release (paper's facts, by hand).
        ("published", 4500, 180_000, {}, (4500, 9000, 13500, 18000)),
        ("release", 4500, 180_000, {"count": 9}, (18000,)),
        ("published", 2000, 80_000, {}, (2000, 4000, 6000, 8000)),
        ("published", 1000, 50_000, {"start": 0.02, "end": 0.06}, (2000, 3000)),
        ("published", 1000, 50_000, {"start": 0.06, "end": 0.12}, (4000, 5000, 6000)),
        ("release", 5000, 200_000, {"count": 10}, (10_000, 20_000)),
        ("strict", 4500, 180_000, {"count": 2}, (9000, 18000)),
    ],
)
def test_protocols_move_truncations_to_evaluations(protocol, every, steps, fields, at):
    training = TrainingSpec(steps=steps, evaluate_every=every, protocol=protocol)
    assert arm(**fields).happens(training) == at


def test_published_smnist_truncates_forty_times():
    training = TrainingSpec(steps=200_000, evaluate_every=5000, protocol="published")
    assert arm(end=1.0, count=40).happens(training) == tuple(range(5000, 200_001, 5000))


def test_a_window_without_an_evaluation_is_refused_under_published():
    training = {"steps": 600, "evaluate_every": 100, "protocol": "published"}
    with pytest.raises(ValidationError, match="none of those every 100 steps falls into the win"):
        TrialSpec(task={"name": "digits"}, training=training, arm=arm())
    with pytest.raises(ValidationError, match="on a multiple of 70"):
        TrialSpec(
            task={"name": "digits"},
            training=training | {"protocol": "release"},
            arm=arm(end=0.7, count=6),
        )
