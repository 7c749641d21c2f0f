"""A study's spec: what it refuses, in one line, and what its candidates are."""

import json
import random
import re

import pytest
from pydantic import ValidationError

from harness.suite import FullSpec, InTrainingSpec, TaskSpec, TrainingSpec, TrialSpec, explain
from harness.tune import Budget, Floats, Ints, Setting, Space, Study

from .conftest import PAPER, fields

SPACE = fields()["space"]
BASE = fields()["base"]


def space(**changes):
    return {**SPACE.model_dump(), **changes}


REFUSED = [
    ({"space": space(start={"low": 0.3, "high": 0.3})}, "space.start: .* 0.3 to 0.3 is empty"),
    ({"space": space(tau={"low": 0.3, "high": 0.2})}, "space.tau: .* 0.3 to 0.2 is inverted"),
    ({"space": space(count={"low": 3, "high": 2})}, "space.count: .* 3 to 2 is inverted"),
    ({"space": space(tau={"low": 0.0, "high": 0.2, "log": True})}, "space.tau: a log range"),
    ({"space": space(tau={"low": 0.1, "high": 1.0})}, "space: tau.high: .* less than 1"),
    ({"space": space(tau={"low": 0.1, "high": 0.9999})}, r"tau.high: .* less than 1 \(got 1.0\)"),
    ({"space": space(start={"low": -0.1, "high": 0.2})}, "start.low: .* greater than or equal"),
    ({"space": space(length={"low": 0.1, "high": 1.5})}, "length.high: .* less than or equal to 1"),
    ({"space": space(count={"low": 0, "high": 2})}, "space: count.low: .* greater than"),
    ({"space": space(count={"low": 1, "high": 21})}, "count.high 21 is more than the 20 grid"),
    ({"space": space(length=None)}, "space: give exactly one of length and end"),
    (
        {"space": space(length=None, end={"low": 0.01, "high": 0.02})},
        "space: end reaches 0.02 at most, which is not after the earliest start, 0.02",
    ),
    ({"space": space(options={"shape": ("a",)})}, "no such option; there are gate, keep, moments"),
    ({"space": space(options={"tau": (0.1,)})}, "options.tau: no such option"),
    ({"space": space(options={"moments": ("keep",)})}, r"options.moments: .* \(got 'keep'\)"),
    ({"space": space(options={"gate": (0.1, 0.1)})}, "options.gate: values repeat"),
    ({"space": space(options={"gate": ()})}, "space.options.gate"),
    ({"margin": -0.01}, "margin must not be negative"),
    ({"margin": None}, "goal constrained needs a margin"),
    ({"margin": 0.0019}, "margin 0.0019 is finer than two of the 1000 .* of vowels, 0.002"),
    ({"goal": "pareto", "margin": 0.01}, "margin is for goal constrained"),
    ({"minimise_state_dim": True}, "minimise_state_dim is for goal pareto"),
    ({"goal": "best"}, "goal: .*'pareto' or 'constrained' .*'best'"),
    ({"sampler": "random"}, "sampler: .*'tpe' or 'nsga2' .*'random'"),
    ({"budget": {}}, "budget: give at least one of candidates, flops, gpu_hours"),
    ({"budget": {"candidates": 0}}, "budget: 0 candidates are fewer than one"),
    ({"budget": {"gpu_hours": 0.0}}, "budget: gpu_hours must be above 0"),
    (
        {"budget": {"flops": 1e6}},
        r"1e\+06 is less than the full model and one batch of 3 .* 2 seeds of .* FLOPs for each = ",
    ),
    ({"seeds": (0,)}, "seeds: .* at least two seeds"),
    ({"seeds": (0, 0)}, r"seeds: seeds repeat: \[0, 0\]"),
    ({"confirm_seeds": (1, 2)}, r"confirm_seeds must be seeds .* not \[1\]"),
    ({"first_seeds": 3}, "first_seeds 3 is more than 2 seeds"),
    ({"grid": 501}, "grid 501 has more points than the run has steps, 500"),
    ({"base": BASE.model_copy(update={"arm": FullSpec(kind="full")})}, "in_training, not full"),
    ({"enqueue": (PAPER.model_copy(update={"tau": 1.5}),)}, "enqueue.0: tau: .* less than 1"),
    ({"enqueue": (PAPER.model_copy(update={"end": 1.5}),)}, "enqueue.0: end: .* less than or"),
    ({"enqueue": (PAPER.model_copy(update={"end": 0.0}),)}, "enqueue.0: .* must be different"),
    ({"enqueue": (PAPER.model_copy(update={"count": 6}),)}, "enqueue.0: count 6 .* the 5 grid"),
    (
        {"enqueue": (PAPER.model_copy(update={"options": {"gate": 0.1}}),)},
        "enqueue.0: option gate is not searched",
    ),
    (
        {"space": space(options={"moments": ("reset",)})},
        "enqueue.0: option moments is transport; space.options tries reset",
    ),
    ({"name": "a/b"}, "name: a study's name is letters"),
    ({"trials": 3}, "trials: no such field; there are name, description, base"),
    ({"batch": 0}, r"batch: .* greater than or equal to 1 \(got 0\)"),
]


@pytest.mark.parametrize(("changes", "said"), REFUSED, ids=[said[:40] for _, said in REFUSED])
def test_refused_in_one_line(changes, said):
    with pytest.raises(ValidationError) as refused:
        Study(**fields(**changes))
    line = explain(refused.value)
    assert re.search(said, line), line
    assert "\n" not in line
    assert len(line) < 300


def test_a_margin_in_bits_is_not_counted_in_examples():
    task = TaskSpec(name="pylib", window=64, validation=10)
    base = TrialSpec(task=task, arm=InTrainingSpec(kind="in_training"))
    assert Study(**fields(base=base, margin=0.001)).objectives == {"train_flops": "minimize"}


def test_objectives(make_study):
    assert list(make_study().objectives.items()) == [("train_flops", "minimize")]
    pareto = make_study(goal="pareto", minimise_state_dim=True).objectives
    assert list(pareto.items()) == [
        ("val_accuracy", "maximize"),
        ("train_flops", "minimize"),
        ("state_dim_mean", "minimize"),
    ]


def test_a_study_survives_json(make_study):
    study = make_study(minimise_state_dim=True, goal="pareto")
    assert Study.model_validate(study.model_dump(mode="json")) == study


def draw(space, rng):
    """Values of the knobs, anywhere in the space and on its corners."""
    values = {}
    for name, knob in space.knobs().items():
        if isinstance(knob, Ints):
            values[name] = rng.randint(knob.low, knob.high)
        elif isinstance(knob, Floats):
            values[name] = rng.choice([knob.low, knob.high, rng.uniform(knob.low, knob.high)])
        else:
            values[name] = rng.choice(knob)
    return values


WHOLE = Space(
    start=Floats(low=0.0, high=1.0),
    length=Floats(low=0.0, high=1.0),
    count=Ints(low=1, high=7),
    tau=Floats(low=0.0, high=0.9),
)
ENDS = WHOLE.model_copy(update={"length": None, "end": Floats(low=0.0, high=1.0)})


@pytest.mark.parametrize("grid", [7, 30, 50])
@pytest.mark.parametrize("searched", [WHOLE, ENDS, SPACE], ids=["length", "end", "part"])
def test_every_event_of_every_candidate_lies_on_the_grid(searched, grid):
    training = TrainingSpec(steps=90_000)
    base = BASE.model_copy(update={"training": training})
    count = Ints(low=1, high=min(2, searched.longest(grid)))
    searched = searched if grid > 7 else searched.model_copy(update={"count": count})
    study = Study(**fields(base=base, space=searched, grid=grid, enqueue=()))
    on_grid = {round(training.steps * point / grid) for point in range(1, grid + 1)}
    rng = random.Random(0)
    firsts = set()
    for _ in range(600):
        params = draw(searched, rng)
        arm = study.arm(params)
        events = arm.events(training.steps)
        assert set(events) <= on_grid
        assert 1 <= arm.count <= params["count"]
        assert (
            abs(arm.start - params["start"]) <= 0.5 / grid + 1e-9 or params["start"] > 1 - 1 / grid
        )
        firsts.add(events[0])
    assert firsts <= set(study.first_event_steps())
    points = study.first_event_points()
    assert firsts <= {round(training.steps * point / grid) for point in points}
    assert len(firsts) > 0.5 * len(points)  # and not many points that no candidate reaches


def test_a_window_is_the_nearest_on_the_grid(make_study):
    study = make_study()
    params = {"start": 0.111, "length": 0.2, "count": 4, "tau": 0.0123456, "moments": "reset"}
    arm = study.arm(params)  # 10 of 50 points over 4 events: 2.5 each, rounded to 2
    assert arm == InTrainingSpec(
        kind="in_training", start=0.12, end=0.28, count=4, tau=0.0123, moments="reset"
    )
    late = study.setting({**params, "start": 0.96, "length": 0.4})  # point 48: room for 2 events
    assert (late.start, late.end, late.count) == (0.96, 1.0, 2)
    tight = study.setting({**params, "start": 0.9, "length": 0.4})  # 5 points for 4: gap 1
    assert (tight.start, tight.end, tight.count) == (0.9, 0.98, 4)


def test_a_grid_point_between_two_steps_stands_for_both():
    arm = InTrainingSpec(kind="in_training", count=1)
    base = BASE.model_copy(update={"training": TrainingSpec(steps=25), "arm": arm})
    few = space(count={"low": 1, "high": 2})
    study = Study(**fields(base=base, grid=10, space=few, enqueue=()))
    assert 1 in study.first_event_points()
    assert {2, 3} <= set(study.first_event_steps())  # 25 / 10 = 2.5


def test_enqueued_settings_may_lie_outside_of_the_space(make_study):
    study = make_study()
    (params,) = study.enqueued()
    assert params == {"start": 0.0, "length": 0.1, "count": 4, "tau": 0.1, "moments": "transport"}
    assert study.setting(params) == Setting(
        start=0.0, end=0.08, count=4, tau=0.1, options={"moments": "transport"}
    )
    exact = make_study(grid=40)
    assert exact.setting(*exact.enqueued()).end == 0.1
    assert 1 in exact.first_event_points()  # its first event, where no other candidate begins


LOSS = {"kind": "in_training", "rule": "loss", "max_loss": 0.1, "calibration": 40}


def test_options_must_fit_the_base_they_change(make_study):
    base = {**BASE.model_dump(), "arm": LOSS}
    bounds = make_study(base=base, space=space(options={"max_loss": (0.1, 0.2)}), enqueue=())
    params = {"start": 0.0, "length": 0.1, "count": 2, "tau": 0.1, "max_loss": 0.2}
    assert bounds.arm(params).max_loss == 0.2
    with pytest.raises(ValidationError, match="`max_loss` belongs to rule loss, not to energy"):
        make_study(space=space(options={"max_loss": (0.1, 0.2)}), enqueue=())


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"description": "words"},
        {"confirm_seeds": (7, 8, 9)},
        {"finalists": 5},
        {"budget": Budget(candidates=999)},
        {"base": BASE.model_copy(update={"seed": 3})},
        {"base": BASE.model_copy(update={"arm": InTrainingSpec(kind="in_training", tau=0.3)})},
    ],
    ids=str,
)
def test_what_does_not_decide_is_not_in_the_identity(make_study, changes):
    assert make_study(**changes).identity() == make_study().identity()


@pytest.mark.parametrize(
    "changes",
    [
        {"space": space(tau={"low": 0.01, "high": 0.4, "log": True})},
        {"seeds": (0, 2)},
        {"goal": "pareto"},
        {"margin": 0.03},
        {"sampler": "nsga2"},
        {"sampler_seed": 1},
        {"startup": 4},
        {"enqueue": ()},
        {"grid": 40},
        {"batch": 9},
        {"first_seeds": 2},
        {"base": BASE.model_copy(update={"training": TrainingSpec(steps=1000)})},
        {"base": BASE.model_copy(update={"arm": InTrainingSpec(kind="in_training", gate=0.05)})},
    ],
    ids=str,
)
def test_what_decides_is_in_the_identity(make_study, changes):
    assert make_study(**changes).identity() != make_study().identity()


def test_the_identity_is_canonical_json(make_study):
    text = make_study().identity()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
