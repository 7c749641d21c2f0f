"""`imdb`: film reviews of the Large Movie Review Dataset, character by character."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.tasks.samples import write_documents
from harness.tasks.specs import ImdbSpec
from harness.tasks.storage.archives import below_one_root
from harness.tasks.storage.mapped import Builder, mapped
from harness.tasks.stored import StoredTask, drawn_split
from harness.tasks.text.characters import Collector, Documents, kept_characters
from harness.tools.inputs import shown

CLASSES = ("neg", "pos")  # in the order of their numbers

# aclImdb/train/pos/0_9.txt: the number of the review and its rating. `unsup` has no labels. What
# begins with a dot is a file system's note, not the publisher's.
_REVIEW = r"(?P<part>train|test)/(?P<label>neg|pos)/(?P<file>[^./][^/]*)"
_NAME = re.compile(r"(\d{1,9})_\d{1,2}\.txt", re.ASCII)
_MAX_REVIEW = 1 << 20  # bytes; the longest has 14 kB
_MAX_REVIEWS = 1 << 30
_LAYOUT = 1  # increase when the arrays change


class Imdb(StoredTask):
    """Is a review positive (1) or negative (0)?

    Tokens as `characters` makes them. The vocabulary comes from all training reviews in the
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
    found = _reviews(path)
    collector = Collector(kept)
    labels: list[int] = []
    for part in ("train", "test"):
        keys = sorted(key for key in found if key[0] == part)
        for label, name in enumerate(CLASSES):
            if not any(key[2] == label for key in keys):
                raise ValueError(f"{path} holds no reviews under {part}/{name}")
        for key in keys:
            collector.add(_decoded(path, *found[key]))
            labels.append(key[2])
        builder.notes[f"{part}_reviews"] = len(keys)
    collector.store(builder)
    builder.put("labels", np.array(labels, dtype=np.uint8))


def _reviews(path: Path) -> dict[tuple[str, int, int], tuple[str, bytes]]:
    """{(train or test, number, class): (name in the archive, content)}.

    Raises ValueError for a file among the reviews that has no review's name, and for a second one
    of the same number.
    """
    found: dict[tuple[str, int, int], tuple[str, bytes]] = {}
    for match, file in below_one_root(path, _REVIEW, _MAX_REVIEW, _MAX_REVIEWS):
        name = _NAME.fullmatch(match["file"])
        if name is None:
            raise ValueError(
                f"{path}: {shown(match[0])} lies among the reviews; expected NUMBER_RATING.txt"
            )
        key = match["part"], int(name[1]), CLASSES.index(match["label"])
        if key in found:
            raise ValueError(f"{path}: {match[0]} and {found[key][0]} are of the same number")
        found[key] = match[0], file.read()
    return found


def _decoded(path: Path, name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: {name} is not UTF-8 at byte {error.start}") from error
