"""Examples of the recall tasks, chunk by chunk, and the split that each belongs to."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.tasks.base import SPLITS
from harness.tasks.progress_lines import ProgressLines
from harness.tasks.specs.recall import RecallSpec

from .rules import RULES, Drawn

GENERATOR_VERSION = 1  # part of the cache's name: raise it when the draws change

# Eighths of all possible examples, by a hash of their tokens: no seed draws a test example that
# another draws for training.
_EIGHTHS = {"test": (0, 1), "validation": (1, 2), "train": (2, 8)}
_HASH_STREAM = 0x5EED
_PATIENCE = 200  # chunks in a row without an example of the split


def generate(spec: RecallSpec, split: str) -> dict[str, np.ndarray]:
    """The first examples of a split: a smaller split is a prefix of a larger one.

    tokens (n, length) uint16; shown and asked (n, answers) uint32, as of `Drawn`. Raises ValueError
    if there are hardly any of this split at this size.
    """
    count = int(getattr(spec, split))
    said = ProgressLines(spec.name, f"{split} examples", count)
    found: list[Drawn] = []
    have = idle = 0
    for drawn in _chunks(spec, split):
        kept = Drawn(*(part[: count - have] for part in drawn))
        found.append(kept)
        have, idle = have + len(kept.tokens), 0 if len(kept.tokens) else idle + 1
        said(len(kept.tokens))
        if have == count:
            break
        if idle == _PATIENCE:
            raise ValueError(
                f"{spec.name}: at this size hardly any example belongs to the {split} split: "
                "enlarge length or vocabulary"
            )
    tokens, shown, asked = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return {"tokens": tokens, "shown": shown, "asked": asked}


def _chunks(spec: RecallSpec, split: str) -> Iterator[Drawn]:
    """Those of chunk 0, 1, 2, ... that belong to the split, without end."""
    rows = int(np.clip(2**22 // (spec.length + spec.vocabulary), 16, 1024))
    low, high = _EIGHTHS[split]
    chunk = 0
    while True:
        seed = [spec.split_seed, SPLITS.index(split), chunk, GENERATOR_VERSION]
        drawn = RULES[spec.name](spec, rows, np.random.default_rng(seed))
        tokens = drawn.tokens.astype(np.uint16)
        eighth = _eighth(tokens)
        mine = (low <= eighth) & (eighth < high)
        yield Drawn(tokens[mine], *(part[mine].astype(np.uint32) for part in drawn[1:]))
        chunk += 1


def _eighth(tokens: np.ndarray) -> np.ndarray:
    """(n,) 0..7 for tokens (n, length): the top bits of a multilinear hash modulo 2^64, which is
    strongly universal (Dietzfelbinger 1996)."""
    stream = np.random.default_rng(_HASH_STREAM)
    factors = stream.integers(2**64, size=tokens.shape[1] + 1, dtype=np.uint64)
    return (tokens.astype(np.uint64) @ factors[1:] + factors[0]) >> np.uint64(61)
