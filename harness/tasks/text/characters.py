"""Documents as characters: stored once as ragged codes, read with any vocabulary and length.

The stored codes number the characters that occur, in the order of their code points. Which of
them become tokens depends on a vocabulary, and that on the length to which documents are cut: it
is made when a task is built, in well under a second, so that one stored copy serves them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harness.tasks.storage.mapped import Builder

PAD, UNKNOWN, END = 0, 1, 2
SPECIALS = ("<pad>", "<unk>", "<eos>")

_SHORTEST_KEPT = 4096  # shorter documents than this are not worth a copy of their own
_UNICODE = 0x110000


def kept_characters(length: int) -> int:
    """Characters stored per document for tasks of `length`: a power of two, to limit copies."""
    return max(_SHORTEST_KEPT, 1 << (length - 1).bit_length())


class Collector:
    """Gathers documents and stores them: `codes` end to end, `ends`, and the `alphabet`."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._codes = np.full(_UNICODE, -1, dtype=np.int32)  # by code point, as first seen
        self._seen: list[np.ndarray] = []
        self._count = 0
        self._documents: list[np.ndarray] = []

    def add(self, text: str) -> int:
        """Take the first `kept` characters of `text`; its number, from 0."""
        points = np.frombuffer(text[: self._kept].encode("utf-32-le"), dtype=np.uint32)
        codes = self._codes[points]
        if codes.size and codes.min() < 0:
            new = np.unique(points[codes < 0])
            self._codes[new] = np.arange(self._count, self._count + len(new))
            self._seen.append(new)
            self._count += len(new)
            codes = self._codes[points]
        narrow = codes.astype(np.min_scalar_type(max(self._count - 1, 0)))
        self._documents.append(narrow)
        return len(self._documents) - 1

    def store(self, builder: Builder, documents: np.ndarray | None = None) -> None:
        """alphabet (characters,) uint32 code points, ascending; codes (total,), the smallest
        unsigned type that holds them; ends (documents,) int64, where each document stops.

        documents: their numbers in the order to store them in; None: as they were added.
        """
        chosen = range(len(self._documents)) if documents is None else documents.tolist()
        texts = [self._documents[number] for number in chosen]
        seen = np.concatenate([*self._seen, np.zeros(0, dtype=np.uint32)])
        order = np.argsort(seen)
        rank = np.empty(len(seen), dtype=np.min_scalar_type(max(len(seen) - 1, 0)))
        rank[order] = np.arange(len(seen))
        ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
        codes = builder.create("codes", (int(ends[-1]) if len(ends) else 0,), rank.dtype)
        for end, text in zip(ends, texts, strict=True):
            codes[end - len(text) : end] = rank[text]
        builder.put("ends", ends)
        builder.put("alphabet", seen[order].astype(np.uint32))


@dataclass(frozen=True)
class Vocabulary:
    """symbols: of each token, the specials first; tokens: (alphabet,) int64, of each code."""

    symbols: tuple[str, ...]
    tokens: np.ndarray

    def text(self, tokens: np.ndarray) -> str:
        """The characters of `tokens` (any integers), specials by name, padding left out."""
        return "".join(self.symbols[t] for t in tokens.tolist() if t != PAD)


class Documents:
    """What `Collector.store` stored; nothing is copied."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._codes = np.asarray(arrays["codes"])
        self._alphabet = np.asarray(arrays["alphabet"])
        self._bounds = np.concatenate([[0], arrays["ends"]]).astype(np.int64)

    @property
    def lengths(self) -> np.ndarray:
        """(documents,) int64 characters stored."""
        return np.diff(self._bounds)

    def occurrences(self, rows: np.ndarray, length: int) -> np.ndarray:
        """(alphabet,) int64: how often each character occurs in the first length - 1 characters
        of the documents `rows`, each counted as often as it is listed."""
        size = len(self._alphabet)
        counts = np.zeros(size, dtype=np.int64)
        times = np.bincount(rows, minlength=len(self._bounds) - 1)
        for row in np.flatnonzero(times):
            start = self._bounds[row]
            stop = min(self._bounds[row + 1], start + length - 1)
            counts += times[row] * np.bincount(self._codes[start:stop], minlength=size)
        return counts

    def vocabulary(self, counts: np.ndarray, min_frequency: int, size: int) -> Vocabulary:
        """The characters counted at least `min_frequency` times, the most frequent first, equal
        ones by code point; with the specials at most `size` tokens."""
        order = np.argsort(-counts, kind="stable")  # codes are in the order of code points
        order = order[counts[order] >= max(min_frequency, 1)][: size - len(SPECIALS)]
        tokens = np.full(len(self._alphabet), UNKNOWN, dtype=np.int64)
        tokens[order] = np.arange(len(SPECIALS), len(SPECIALS) + len(order))
        return Vocabulary(SPECIALS + tuple(map(chr, self._alphabet[order].tolist())), tokens)

    def encode(self, rows: np.ndarray, length: int, vocabulary: Vocabulary) -> np.ndarray:
        """(rows, length) int64: each document's first length - 1 characters, an end mark, and
        padding on the right."""
        x = np.full((len(rows), length), PAD, dtype=np.int64)
        for k, row in enumerate(rows):
            start = self._bounds[row]
            stop = min(self._bounds[row + 1], start + length - 1)
            x[k, : stop - start] = vocabulary.tokens[self._codes[start:stop]]
            x[k, stop - start] = END
        return x

    def length_facts(self, rows: np.ndarray, length: int) -> dict[str, float]:
        """What a summary says of the documents `rows`: their lengths, and the share cut off."""
        lengths = self.lengths[rows]
        return {
            "shortest": int(lengths.min()),
            "mean_length": float(lengths.mean()),
            "longest": int(lengths.max()),
            "share_cut": float(np.mean(lengths > length - 1)),
        }
