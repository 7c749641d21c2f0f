"""Recall tasks: each example by brute force, the law of the gaps, the splits, the sizes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.stats import chisquare

from harness.tasks import build
from harness.tasks.base import SPLITS, UNSCORED
from harness.tasks.recall import generator
from harness.tasks.recall.rules import RULES, _distinct, mqar
from harness.tasks.specs import CopyingSpec, InductionSpec, MqarSpec, SelectiveCopyingSpec

SIZES = {"train": 300, "validation": 100, "test": 150}
SPECS = {
    "mqar": MqarSpec(name="mqar", length=48, pairs=6, vocabulary=31, **SIZES),
    "mqar full": MqarSpec(name="mqar", length=24, pairs=6, vocabulary=13, power=1.0, **SIZES),
    "copying": CopyingSpec(name="copying", length=33, tokens=7, **SIZES),
    "selective_copying": SelectiveCopyingSpec(
        name="selective_copying", length=30, tokens=5, vocabulary=9, **SIZES
    ),
    "induction": InductionSpec(name="induction", length=20, vocabulary=7, **SIZES),
}


def everything(spec, data_dir, split):
    x, y = build(spec, data_dir).examples(split, np.arange(getattr(spec, split)))
    return x.tolist(), y.tolist()


# The answers of one example, {step: token}, read from its tokens alone as the rules are told.


def answers_of_mqar(spec, x, y):
    half = spec.vocabulary // 2
    keys, values = x[0 : 2 * spec.pairs : 2], x[1 : 2 * spec.pairs : 2]
    assert len(set(keys)) == len(set(values)) == spec.pairs
    assert max(keys) < half <= min(values)
    paired = dict(zip(keys, values, strict=True))
    asked = [step for step, target in enumerate(y) if target != UNSCORED]
    assert sorted(x[step] for step in asked) == sorted(keys)  # each once
    assert all(step >= 2 * spec.pairs and (step - 2 * spec.pairs) % 2 == 0 for step in asked)
    return {step: paired[x[step]] for step in asked}


def answers_of_copying(spec, x, y):
    shown, end = x[: spec.tokens], spec.length - spec.tokens
    assert set(x[spec.tokens : end]) <= {0}
    assert set(x[end:]) == {1}
    return {end + i: token for i, token in enumerate(shown)}


def answers_of_selective_copying(spec, x, y):
    end = spec.length - spec.tokens
    shown = [token for token in x[:end] if token != 0]
    assert len(shown) == spec.tokens
    assert min(shown) > 1
    assert set(x[end:]) == {1}
    return {end + i: token for i, token in enumerate(shown)}


def answers_of_induction(spec, x, y):
    assert x.count(0) == 2
    assert x[-1] == 0
    return {spec.length - 1: x[x.index(0) + 1]}


ANSWERS = {
    "mqar": answers_of_mqar,
    "copying": answers_of_copying,
    "selective_copying": answers_of_selective_copying,
    "induction": answers_of_induction,
}


@pytest.mark.parametrize("case", SPECS)
@pytest.mark.parametrize("trained", ["answers", "every_step"])
def test_every_target_is_the_answer_that_the_sequence_holds(case, trained, data_dir):
    spec = SPECS[case].model_copy(update={"trained": trained})
    for split in SPLITS:
        xs, ys = everything(SPECS[case], data_dir, split)
        trained_x, trained_y = everything(spec, data_dir, split)
        assert trained_x == xs
        for x, y, trained_on in zip(xs, ys, trained_y, strict=True):
            assert 0 <= min(x) <= max(x) < spec.vocabulary
            answers = ANSWERS[spec.name](spec, x, y)
            assert len(answers) == spec.answers
            wanted = [answers.get(step, UNSCORED) for step in range(spec.length)]
            assert y == wanted
            following = [*x[1:], UNSCORED]
            at_every_step = split == "train" and trained == "every_step"
            both = [answers.get(step, following[step]) for step in range(spec.length)]
            assert trained_on == (both if at_every_step else wanted)


@pytest.mark.parametrize("case", ["mqar", "mqar full", "induction"])
def test_the_step_that_asks_does_not_show_the_answer(case, data_dir):
    spec = SPECS[case]
    xs, ys = everything(spec, data_dir, "train")
    for x, y in zip(xs, ys, strict=True):
        assert all(x[step] != target for step, target in enumerate(y) if target != UNSCORED)


def test_a_target_says_nothing_that_other_steps_tell(data_dir):
    """Of copying's symbols each is as frequent wherever it stands: no place predicts a symbol."""
    spec = CopyingSpec(name="copying", length=20, tokens=10, train=8000)
    _, y = build(spec, data_dir).examples("train", np.arange(8000))
    for place in range(10):
        counts = np.bincount(y[:, 10 + place].numpy() - 2, minlength=8)
        assert chisquare(counts).pvalue > 1e-4


def test_queries_follow_the_power_law():
    """The nearest slot is taken by the first of `pairs` draws with the law's probability, and all
    draws together take it as often as the recursion over what is left says."""
    for power in (0.01, 0.5, 1.0):
        spec = MqarSpec(name="mqar", length=20, pairs=2, vocabulary=64, power=power)
        rng = np.random.default_rng(1)
        drawn = mqar(spec, 40_000, rng)
        slots = (drawn.asked - 4) // 2
        law = np.arange(1, 9) ** (power - 1)
        law /= law.sum()
        second = np.array([sum(law[j] * law[i] / (1 - law[j]) for j in range(8) if j != i)
                           for i in range(8)])  # fmt: skip
        for column, wanted in ((0, law), (1, second)):
            counts = np.bincount(slots[:, column], minlength=8)
            assert chisquare(counts, wanted * len(slots)).pvalue > 1e-4


def test_draws_without_replacement_are_uniform_over_ordered_choices():
    drawn = _distinct(np.random.default_rng(0), 60_000, 4, 3)
    counts = np.bincount(drawn @ [16, 4, 1], minlength=64)
    assert np.count_nonzero(counts) == math.perm(4, 3)
    assert chisquare(counts[counts > 0]).pvalue > 1e-4
    assert sorted(_distinct(np.random.default_rng(0), 1, 5, 5)[0].tolist()) == [0, 1, 2, 3, 4]


def test_other_steps_are_random_tokens_of_the_whole_vocabulary(data_dir):
    spec = MqarSpec(name="mqar", length=64, pairs=2, vocabulary=16, train=3000)
    x, y = build(spec, data_dir).examples("train", np.arange(3000))
    filler = x[:, 4:][y[:, 4:] == UNSCORED].numpy()
    assert chisquare(np.bincount(filler, minlength=16)).pvalue > 1e-4


@pytest.mark.parametrize("case", SPECS)
def test_a_smaller_split_is_a_prefix_and_the_others_do_not_matter(case, data_dir):
    spec = SPECS[case]
    more = spec.model_copy(update={"train": 1700, "validation": 90})
    for split, count in (("train", 300), ("validation", 90), ("test", 150)):
        few, many = (build(one, data_dir).examples(split, np.arange(count)) for one in (spec, more))
        assert torch.equal(few[0], many[0])
        assert torch.equal(few[1], many[1])


def test_no_example_is_in_two_splits_even_of_other_seeds(data_dir):
    """Of 4^4 = 256 possible sequences of symbols: each belongs to one split for good."""
    found = {split: set() for split in SPLITS}
    for seed in range(3):
        spec = CopyingSpec(
            name="copying", length=9, tokens=4, vocabulary=6, split_seed=seed,
            train=150, validation=50, test=50,
        )  # fmt: skip
        for split in SPLITS:
            found[split] |= {tuple(row) for row in everything(spec, data_dir, split)[0]}
    sizes = {split: len(rows) for split, rows in found.items()}
    assert sizes["train"] > 2.5 * (sizes["validation"] + sizes["test"])
    assert min(sizes.values()) > 10
    assert len(set().union(*found.values())) == sum(sizes.values())


def test_a_split_without_examples_is_one_line(data_dir, monkeypatch):
    monkeypatch.setitem(generator._EIGHTHS, "test", (8, 9))
    spec = SPECS["induction"].model_copy(update={"split_seed": 77})
    with pytest.raises(ValueError, match="induction: at this size hardly any example belongs to"):
        build(spec, data_dir)


def test_what_is_trained_changes_the_fingerprint_and_makes_no_other_data(tmp_path):
    spec = SPECS["mqar"]
    one = build(spec, tmp_path)
    files = sorted(tmp_path.rglob("*.npz"))
    two = build(spec.model_copy(update={"trained": "every_step"}), tmp_path)
    assert sorted(tmp_path.rglob("*.npz")) == files
    assert len(files) == 3
    assert one.fingerprint != two.fingerprint


def test_the_version_is_in_the_draws_and_in_the_name_of_the_cache(tmp_path, monkeypatch):
    from harness.tasks.recall import recall

    spec = SPECS["induction"]
    one = recall.Recall(spec, tmp_path)
    for module in (generator, recall):
        monkeypatch.setattr(module, "GENERATOR_VERSION", 2)
    two = recall.Recall(spec, tmp_path)
    assert len(list(tmp_path.rglob("*.npz"))) == 6
    assert one.fingerprint != two.fingerprint


@pytest.mark.parametrize("case", SPECS)
def test_balance_counts_what_is_asked(case, data_dir):
    spec = SPECS[case]
    facts = build(spec, data_dir).summary()["balance"]["test"]
    xs, ys = everything(spec, data_dir, "test")
    targets = [t for y in ys for t in y if t != UNSCORED]
    assert facts["answers_per_example"] == len(targets) / len(ys)
    assert facts["chance_accuracy"] == pytest.approx(1 / spec.choices)
    assert facts["majority_share"] == max(map(targets.count, targets)) / len(targets)
    assert 0 < facts["mean_distance"] <= facts["longest_distance"] < spec.length
    if spec.name == "copying":
        assert facts["mean_distance"] == facts["longest_distance"] == spec.length - spec.tokens
    if spec.name == "induction":
        gaps = [len(x) - 1 - (x.index(0) + 1) for x in xs]
        assert facts["mean_distance"] == pytest.approx(np.mean(gaps))


@pytest.mark.parametrize("case", SPECS)
def test_the_sample_shows_steps_targets_and_where_answers_stand(case, data_dir, tmp_path):
    spec = SPECS[case]
    task = build(spec, data_dir)
    text = task.sample(tmp_path).read_text()
    (x,), (y,) = (part.tolist() for part in task.examples("train", np.array([0])))
    lines = text.split("--- training example 0\n")[1].splitlines()
    rows = {what: [] for what in ("step", "sees", "says")}
    for line in lines:
        if line.startswith("step") and "asks" in line:
            break
        if line:
            rows[line.split()[0]] += line.split()[1:]

    def words(tokens):
        names = {UNSCORED: ".", **dict(enumerate(spec.special))}
        return [names.get(token, str(token)) for token in tokens]

    assert rows == {
        "step": list(map(str, range(spec.length))), "sees": words(x), "says": words(y),
    }  # fmt: skip
    asked = [step for step, target in enumerate(y) if target != UNSCORED]
    said = [line for line in lines if " asks for " in line][: spec.answers]
    for step, line in zip(asked, said, strict=True):
        head, shown = line.split(", which stands at step ")
        assert head == f"step {step} asks for {words([y[step]])[0]}"
        assert x[int(shown)] == y[step]


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (MqarSpec, {"pairs": 9}, "length 32 is too short for 9 pairs.*at least 4 x pairs, 36"),
        (MqarSpec, {"pairs": 8}, "vocabulary 16 is too small for 8 pairs.*above.*16"),
        (MqarSpec, {"pairs": 0}, "pairs"),
        (MqarSpec, {"power": -0.1}, "power"),
        (MqarSpec, {"trained": "last"}, "trained"),
        (CopyingSpec, {"tokens": 33}, "length 64 is too short to show 33 tokens.*2 x tokens, 66"),
        (CopyingSpec, {"tokens": 3}, "copying has no 23000 different examples.*only about 512"),
        (CopyingSpec, {"vocabulary": 3}, "vocabulary"),
        (SelectiveCopyingSpec, {"length": 15}, "length 15 is too short to show 8 tokens"),
        (InductionSpec, {"length": 2}, "length"),
        (InductionSpec, {"length": 4}, "no 23000 different examples at this size, only about 450"),
        (InductionSpec, {"vocabulary": 2**17}, "vocabulary"),
    ],
)
def test_what_does_not_fit_is_one_line(kind, fields, message):
    with pytest.raises(ValidationError, match=message) as caught:
        kind(name=kind.task_name(), **fields)
    assert len(caught.value.errors()) == 1


def test_the_number_of_examples_is_that_of_an_enumeration():
    """Of the smallest sizes; of mqar a lower bound, which leaves out where the queries stand."""
    copying = CopyingSpec(name="copying", length=4, tokens=2, vocabulary=4, **SMALLEST)
    assert math.exp(copying.log_examples) == pytest.approx(4)
    selective = SelectiveCopyingSpec(
        name="selective_copying", length=5, tokens=2, vocabulary=5, **SMALLEST
    )
    assert math.exp(selective.log_examples) == pytest.approx(3**2 * 3)
    induction = InductionSpec(name="induction", length=4, vocabulary=3, **SMALLEST)
    assert math.exp(induction.log_examples) == pytest.approx(2**2 * 2)
    assert len({tuple(x) for x in RULES["induction"](induction, 999, RNG).tokens}) == 8
    assert len({tuple(x) for x in RULES["selective_copying"](selective, 999, RNG).tokens}) == 27
    bound = MqarSpec(name="mqar", length=8, pairs=1, vocabulary=4, **SMALLEST)
    found = {tuple(x) for x in mqar(bound, 300_000, RNG).tokens}
    assert math.exp(bound.log_examples) == pytest.approx(4 * 4**5)
    assert 4 * 4**5 <= len(found) < 3 * 4 * 4**5


SMALLEST = {"train": 1, "validation": 1, "test": 1}
RNG = np.random.default_rng(5)
PUBLISHED = [
    *({"name": "mqar", "vocabulary": 8192, "length": length, "pairs": pairs}
      for length, pairs in ((64, 4), (128, 8), (256, 64), (1024, 256), (256, 64), (512, 128))),
    {"name": "copying", "length": 2020, "tokens": 10, "vocabulary": 10},
    {"name": "selective_copying", "length": 4096, "tokens": 16, "vocabulary": 16},
    {"name": "induction", "length": 256, "vocabulary": 16},
]  # fmt: skip


@pytest.mark.parametrize("fields", PUBLISHED, ids=str)
def test_published_sizes_can_be_had(fields):
    kinds = {kind.task_name(): kind
             for kind in (MqarSpec, CopyingSpec, SelectiveCopyingSpec, InductionSpec)}  # fmt: skip
    spec = kinds[fields["name"]](**fields)
    drawn = RULES[spec.name](spec, 4, np.random.default_rng(0))
    assert drawn.tokens.shape == (4, spec.length)
    assert drawn.shown.shape == drawn.asked.shape == (4, spec.answers)
    assert (drawn.shown < drawn.asked).all()
