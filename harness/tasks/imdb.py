"""`imdb`: film reviews of the Large Movie Review Dataset, character by character."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.tasks.archives import members
from harness.tasks.characters import Collector, Documents, kept_characters
from harness.tasks.mapped import Builder, mapped
from harness.tasks.samples import write_documents
from harness.tasks.specs import ImdbSpec
from harness.tasks.stored import StoredTask, drawn_split

CLASSES = ("neg", "pos")  # in the order of their numbers

# aclImdb/train/pos/0_9.txt: the number of the review and its rating. `unsup` has no labels.
_REVIEW = re.compile(r"(?:^|/)(train|test)/(neg|pos)/(\d+)_\d+\.txt$")
_MAX_REVIEW = 1 << 20  # bytes; the longest has 14 kB
_MAX_REVIEWS = 1 << 30
_LAYOUT = 1  # raise it when the arrays change


class Imdb(StoredTask):
    """Is a review positive (1) or negative (0)?

    Tokens as `characters` makes them; the vocabulary is drawn up from all training reviews of the
    archive, cut as the model sees them, before any are set aside for validation, as in the S4
    family's loader. Reviews of both classes take turns, so the first n are balanced.
    """

    def __init__(self, spec: ImdbSpec, data_dir: Path) -> None:
        kept = kept_characters(spec.length)
        options = {"layout": _LAYOUT, "kept_characters": kept}
        stored = mapped(data_dir, "imdb", options, lambda builder: _build(builder, kept))
        rows = np.arange(len(stored.arrays["labels"]))
        train, test = np.split(rows, [stored.notes["train_reviews"]])
        self._documents = Documents(stored.arrays)
        counts = self._documents.occurrences(train, spec.length)
        self.vocabulary = self._documents.vocabulary(counts, spec.min_frequency, spec.vocabulary)
        if spec.validation_from == "test":
            split = {"train": train, "validation": test, "test": test}
            how = "VALIDATED ON THE TEST SET, as in the paper's release"
        else:
            kept_rows, held = drawn_split(len(train), spec.validation_share, spec.split_seed)
            split = {"train": train[kept_rows], "validation": train[held], "test": test}
            how = (
                f"{len(held)} training reviews drawn for validation by split_seed {spec.split_seed}"
            )
        super().__init__(spec, stored, split, stored.arrays["labels"])
        self.provenance = (
            f"the Large Movie Review Dataset (Maas et al. 2011): {len(train)} training and "
            f"{len(test)} test reviews; {how}; {len(self.vocabulary.symbols)} tokens, the "
            f"characters that occur at least {spec.min_frequency} times in the training reviews"
        )

    def _take(self, split: str, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        pool = self.pool_rows(split, rows)
        x = self._documents.encode(pool, self.info.length, self.vocabulary)
        y = self.stored.arrays["labels"][pool].astype(np.int64)
        return torch.from_numpy(x), torch.from_numpy(y)

    def _balance(self, split: str) -> dict[str, Any]:
        pool = self.pool_rows(split, np.arange(self.sizes[split]))
        return super()._balance(split) | self._documents.length_facts(pool, self.info.length)

    def sample(self, directory: str | Path) -> Path:
        """A text file: a few reviews as the model sees them, with their classes."""
        x, y = self.examples("train", np.arange(min(4, self.sizes["train"])))
        entries = [
            (CLASSES[label], [row]) for row, label in zip(x.numpy(), y.tolist(), strict=True)
        ]
        return write_documents(directory, self, self.vocabulary, entries)


def _build(builder: Builder, kept: int) -> None:
    """Reviews of the training set, then of the test set, each in the order of their numbers."""
    path = builder.archive("aclImdb_v1.tar.gz")
    found: dict[tuple[str, int, int], bytes] = {}
    for name, content in members(path, _is_review, _MAX_REVIEW, _MAX_REVIEWS):
        match = _REVIEW.search(name)
        assert match is not None
        found[match[1], int(match[3]), CLASSES.index(match[2])] = content
    collector = Collector(kept)
    labels: list[int] = []
    for part in ("train", "test"):
        keys = sorted(key for key in found if key[0] == part)
        for label, name in enumerate(CLASSES):
            if not any(key[2] == label for key in keys):
                raise ValueError(f"{path} holds no reviews under {part}/{name}")
        for key in keys:
            collector.add(_decoded(path, key, found[key]))
            labels.append(key[2])
        builder.notes[f"{part}_reviews"] = len(keys)
    collector.store(builder)
    builder.put("labels", np.array(labels, dtype=np.uint8))


def _is_review(name: str) -> bool:
    return _REVIEW.search(name) is not None


def _decoded(path: Path, key: tuple[str, int, int], content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        name = f"{key[0]}/{CLASSES[key[2]]}/{key[1]}_*.txt"
        raise ValueError(f"{path}: {name} is not UTF-8 at byte {error.start}") from error
