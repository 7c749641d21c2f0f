"""ListOps: an evaluator of its own, the rules of the generator, reproducibility, the cache."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import numpy as np
import pytest

from harness.tasks import ListopsSpec, build
from harness.tasks.listops import trees
from harness.tasks.listops.listops import cache_path

SHORT = ListopsSpec(
    name="listops", train=1500, validation=200, test=300, min_length=8, max_length=200, length=200
)
# Bounds so wide that nothing is refused: what comes out is the bare distribution.
OPEN = ListopsSpec(
    name="listops", min_length=0, max_length=20_000, max_depth=5, max_args=6, length=20_000
)


def parse(tokens: list[int]) -> tuple[int, int, list[int]]:
    """(value, depth, numbers of arguments), by a stack; written from the task's description."""
    names = dict(enumerate(["pad", "unk", "eos", *"0123456789", "MIN", "MAX", "MED", "SM", "X"]))
    rules: dict[str, Callable[[list[int]], int]] = {
        "MIN": min,
        "MAX": max,
        "MED": lambda v: int(statistics.median(v)),
        "SM": lambda v: sum(v) % 10,
    }
    stack: list[tuple[str, list[int]]] = [("root", [])]
    deepest, counts = 1, []
    for token in tokens:
        name = names[token]
        if name.isdigit():
            stack[-1][1].append(int(name))
            deepest = max(deepest, len(stack))
        elif name in rules:
            stack.append((name, []))
        elif name == "X":
            operator, values = stack.pop()
            counts.append(len(values))
            stack[-1][1].append(rules[operator](values))
        else:
            raise AssertionError(f"unexpected token {name}")
    assert len(stack) == 1
    assert len(stack[0][1]) == 1
    return stack[0][1][0], deepest, counts


def sequences(spec, workers=1, count=500):
    made = trees.generate(spec, count, workers)
    return np.split(made.tokens, made.ends[:-1]), made.labels


def test_the_evaluator_itself():
    """By hand: MED(2, 3, 7, SM(9, 4)=3) = 3; and MED(1, 4) = int(2.5) = 2."""
    assert parse([15, 5, 6, 10, 16, 12, 7, 17, 17]) == (3, 3, [2, 4])
    assert parse([15, 4, 7, 17])[0] == 2


def test_labels_and_rules():
    found, labels = sequences(SHORT, count=2000)
    depths, counts = [], []
    for tokens, label in zip(found, labels, strict=True):
        value, depth, args = parse(tokens.tolist())
        assert value == label
        assert 8 < len(tokens) < 200
        depths.append(depth)
        counts += args
    assert max(depths) == 10
    assert set(counts) == set(range(2, 11))
    assert len({t.tobytes() for t in found}) == 2000


def test_full_scale_labels():
    found, labels = sequences(ListopsSpec(name="listops"), count=150)
    for tokens, label in zip(found, labels, strict=True):
        value, depth, _ = parse(tokens.tolist())
        assert value == label
        assert depth <= 10
        assert 500 < len(tokens) < 2000


def test_distribution_is_that_of_the_rules():
    """Against exact values. With L_5 = 1 and L_d = 3/4 + (2 + 4 L_(d+1)) / 4, L_1 is the mean
    length; a lone digit has probability 3/4; '[OP d d ]' 1/4 x 1/5 x (3/4)^2."""
    lengths: list[int] = []
    symbols = np.zeros(18, dtype=np.int64)
    for index in range(60):
        chunk = trees.draw_chunk(OPEN, index)
        lengths += np.diff(chunk.ends, prepend=0).tolist()
        symbols += np.bincount(chunk.tokens, minlength=18)
    size = np.array(lengths)
    assert len(size) == 60 * trees.roots(OPEN)
    mean = 1.0
    for _ in range(4):
        mean = 0.75 + (2 + 4 * mean) / 4
    error = size.std() / np.sqrt(len(size))
    assert abs(size.mean() - mean) < 4 * error
    assert error < 0.03 * mean  # or the line above proves nothing
    for length, share in ((1, 0.75), (4, 0.25 / 5 * 0.75**2)):
        deviation = np.sqrt(share * (1 - share) / len(size))
        assert abs(np.mean(size == length) - share) < 4 * deviation
    digits, operators = symbols[3:13], symbols[13:17]
    assert operators.sum() == symbols[17]
    for counts in (digits, operators):
        expected = counts.sum() / len(counts)
        assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def test_pruning_changes_nothing():
    """A bound on the length keeps the same trees as drawing without it and refusing afterwards:
    the share of lengths below 30, among all drawn, is the same."""
    low = OPEN.model_copy(update={"max_length": 30})
    kept = np.mean([len(trees.draw_chunk(low, k).labels) for k in range(10)]) / trees.roots(low)
    sizes = [np.diff(trees.draw_chunk(OPEN, k).ends, prepend=0) for k in range(60)]
    share = np.mean(np.concatenate(sizes) < 30)
    assert abs(kept - share) < 0.015


def test_workers_do_not_matter():
    one, two, five = (trees.generate(SHORT, 700, workers) for workers in (1, 2, 5))
    for other in (two, five):
        np.testing.assert_array_equal(one.tokens, other.tokens)
        np.testing.assert_array_equal(one.ends, other.ends)
        np.testing.assert_array_equal(one.labels, other.labels)


def test_padding_and_end_mark(tmp_path):
    task = build(SHORT, tmp_path)
    x, y = task.examples("test", np.arange(50))
    for row, label in zip(x.tolist(), y.tolist(), strict=True):
        end = row.index(2)
        assert parse(row[:end])[0] == label
        assert set(row[end + 1 :]) <= {0}


def test_more_training_leaves_the_other_splits_alone(tmp_path):
    small = build(SHORT.model_copy(update={"train": 100}), tmp_path)
    large = build(SHORT, tmp_path)
    for split, size in (("validation", 200), ("test", 300)):
        rows = np.arange(size)
        assert (small.examples(split, rows)[0] == large.examples(split, rows)[0]).all()
    assert small.fingerprint != large.fingerprint


def test_padded_length_shares_the_cache_but_not_the_fingerprint(tmp_path):
    wide = SHORT.model_copy(update={"length": 300})
    assert cache_path(SHORT, tmp_path) == cache_path(wide, tmp_path)
    assert build(SHORT, tmp_path).fingerprint != build(wide, tmp_path).fingerprint


def test_too_few_distinct_expressions_are_refused():
    """Strictly between 3 and 5 there are only '[OP d d ]': 4 x 10 x 10."""
    tiny = SHORT.model_copy(update={"min_length": 3, "max_length": 5})
    assert len(trees.generate(tiny, 400, 1).labels) == 400
    with pytest.raises(ValueError, match="asked for 401 distinct expressions, but after 400"):
        trees.generate(tiny, 401, 1)
