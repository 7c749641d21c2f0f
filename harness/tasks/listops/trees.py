"""The ListOps generator of the Long Range Arena, level by level for thousands of trees at once.

The rules (lra_benchmarks/data/listops.py): at a depth below max_depth (the root's is 1) a node is
a digit with probability 3/4, else an operator with 2..max_args arguments; at max_depth always a
digit. Digits, operators and numbers of arguments are uniform. An operator's length is 2 plus its
children's, a digit's 1; an expression is kept where min_length < length < max_length, once.

Every draw is independent of the order in which nodes are drawn, so drawing a whole level of many
trees at once gives the same distribution as the recursive original, and a tree that has already
grown too long can be left alone: it would be refused anyway.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from harness.tasks.progress_lines import ProgressLines
from harness.tasks.specs import ListopsSpec
from harness.tools.cores import usable_cores

PAD, UNKNOWN, END = 0, 1, 2
DIGIT = 3  # the token of digit d is DIGIT + d
OPERATORS = ("[MIN", "[MAX", "[MED", "[SM")
OPERATOR = 13  # the token of operator k is OPERATOR + k
CLOSE = 17
SYMBOLS = ("<pad>", "<unk>", "<eos>", *map(str, range(10)), *OPERATORS, "X")

OPERATOR_PROBABILITY = 0.25
GENERATOR_VERSION = 1  # part of the cache's name: raise it when the draws change

# A seed may ask for expressions that are too rare, or too few, to be found: give up after so many
# chunks in a row without a new one.
_PATIENCE = 50


@dataclass(frozen=True)
class Expressions:
    """Token sequences end to end: tokens (total,) uint8, ends (count,) int64, labels uint8."""

    tokens: np.ndarray
    ends: np.ndarray
    labels: np.ndarray


@dataclass
class _Level:
    """The nodes of one depth, those with the same parent side by side, trees in order."""

    tree: np.ndarray  # (nodes,) which tree
    args: np.ndarray  # (nodes,) number of children; 0 for a digit
    symbol: np.ndarray  # (nodes,) 0..9 for a digit, 0..3 for an operator


def generate(spec: ListopsSpec, count: int, workers: int | None = None) -> Expressions:
    """The first `count` distinct expressions of `spec`, whatever the number of workers.

    Chunks of trees have a seed each and are joined in their order. Threads are
    enough, because numpy releases the interpreter's lock, and need no imports or clean-up.
    Raises ValueError if not enough distinct expressions exist within these bounds.
    """
    seen: set[bytes] = set()
    tokens: list[np.ndarray] = []
    labels: list[int] = []
    idle = 0
    said = ProgressLines("listops", "expressions", count)
    for chunk in _chunks(spec, workers or usable_cores()):
        before = len(labels)
        starts = np.concatenate([[0], chunk.ends[:-1]]).astype(np.int64)
        for start, end, label in zip(starts, chunk.ends, chunk.labels, strict=True):
            sequence = chunk.tokens[start:end]
            key = hashlib.blake2b(sequence.tobytes(), digest_size=16).digest()
            if key not in seen:
                seen.add(key)
                tokens.append(sequence)
                labels.append(label)
            if len(labels) == count:
                ends = np.cumsum([len(t) for t in tokens], dtype=np.int64)
                return Expressions(np.concatenate(tokens), ends, np.array(labels, dtype=np.uint8))
        said(len(labels) - before)
        idle = 0 if len(labels) > before else idle + 1
        if idle == _PATIENCE:
            break
    raise ValueError(
        f"listops: asked for {count} distinct expressions, but after {len(labels)} the last "
        f"{_PATIENCE * roots(spec)} draws held no new one; widen min_length, max_length, "
        "max_depth or max_args"
    )


def _chunks(spec: ListopsSpec, workers: int) -> Iterator[Expressions]:
    """Chunk 0, 1, 2, ... without end, a few drawn ahead."""
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[Future[Expressions]] = deque()
        index = 0
        try:
            while True:
                while len(ahead) <= workers:
                    ahead.append(pool.submit(draw_chunk, spec, index))
                    index += 1
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def roots(spec: ListopsSpec) -> int:
    """Trees per chunk: many, but so few that one chunk of the longest stays small in memory."""
    return int(np.clip(2**22 // spec.max_length, 16, 2048))


def draw_chunk(spec: ListopsSpec, index: int) -> Expressions:
    """The accepted expressions of chunk `index`, a pure function of (spec, index)."""
    rng = np.random.default_rng([spec.split_seed, index, GENERATOR_VERSION])
    levels, lengths = _grow(spec, rng)
    accepted = (lengths > spec.min_length) & (lengths < spec.max_length)
    levels = [_keep(level, accepted[level.tree]) for level in levels]
    levels = [level for level in levels if len(level.tree)]
    if not levels:
        empty = np.zeros(0, dtype=np.uint8)
        return Expressions(empty, np.zeros(0, dtype=np.int64), empty)
    sizes, values = _measure(levels)
    return Expressions(_write(levels, sizes), np.cumsum(sizes[0]), values[0].astype(np.uint8))


def _grow(spec: ListopsSpec, rng: np.random.Generator) -> tuple[list[_Level], np.ndarray]:
    """All levels, and the trees' lengths (trees that are too long stop growing: theirs differ)."""
    count = roots(spec)
    tree = np.arange(count)
    lengths = np.zeros(count, dtype=np.int64)
    levels = []
    for depth in range(1, spec.max_depth + 1):
        size = len(tree)
        inner = depth < spec.max_depth
        operator = rng.random(size) <= OPERATOR_PROBABILITY if inner else np.zeros(size, dtype=bool)
        args = np.where(operator, rng.integers(2, spec.max_args, size, endpoint=True), 0)
        symbol = np.where(
            operator, rng.integers(0, len(OPERATORS), size), rng.integers(0, 10, size)
        )
        lengths += np.bincount(tree, weights=1 + operator, minlength=count).astype(np.int64)
        waiting = np.bincount(tree, weights=args, minlength=count)
        too_long = lengths + waiting >= spec.max_length
        lengths[too_long] = spec.max_length
        args[too_long[tree]] = 0
        levels.append(_Level(tree, args, symbol))
        tree = np.repeat(tree, args)
        if not len(tree):
            break
    return levels, lengths


def _keep(level: _Level, mask: np.ndarray) -> _Level:
    return _Level(level.tree[mask], level.args[mask], level.symbol[mask])


def _measure(levels: list[_Level]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Length in tokens and value of every node, level by level: from the leaves to the roots."""
    sizes, values = [], []
    child_sizes = child_values = np.zeros(0, dtype=np.int64)
    for level in reversed(levels):
        operator = level.args > 0
        size, value = np.ones(len(level.args), dtype=np.int64), level.symbol.astype(np.int64)
        if operator.any():
            args = level.args[operator]
            starts = np.cumsum(args) - args
            size[operator] = 2 + np.add.reduceat(child_sizes, starts)
            value[operator] = _apply(level.symbol[operator], args, starts, child_values)
        child_sizes, child_values = size, value
        sizes.append(size)
        values.append(value)
    return sizes[::-1], values[::-1]


def _apply(
    operators: np.ndarray, args: np.ndarray, starts: np.ndarray, values: np.ndarray
) -> np.ndarray:
    """Each operator's value; its arguments are values[starts : starts + args].

    The median of an even number of arguments is the mean of the middle two, cut to an integer.
    """
    owner = np.repeat(np.arange(len(args)), args)
    # Sorting by (owner, value) puts each operator's arguments in order within their own places.
    ordered = np.sort(owner * 10 + values) % 10
    median = (ordered[starts + (args - 1) // 2] + ordered[starts + args // 2]) // 2
    total = np.add.reduceat(values, starts) % 10
    return np.choose(operators, [ordered[starts], ordered[starts + args - 1], median, total])


def _write(levels: list[_Level], sizes: list[np.ndarray]) -> np.ndarray:
    """The tokens of all trees end to end, (total,) uint8: from the roots to the leaves."""
    tokens = np.zeros(int(sizes[0].sum()), dtype=np.uint8)
    position = np.cumsum(sizes[0]) - sizes[0]
    for depth, level in enumerate(levels):
        operator = level.args > 0
        tokens[position] = level.symbol + np.where(operator, OPERATOR, DIGIT)
        tokens[position[operator] + sizes[depth][operator] - 1] = CLOSE
        if not operator.any():
            break
        args = level.args[operator]
        below = np.cumsum(sizes[depth + 1]) - sizes[depth + 1]
        first = below[np.cumsum(args) - args]
        position = np.repeat(position[operator] + 1 - first, args) + below
    return tokens
