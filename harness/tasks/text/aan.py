"""`aan`: pairs of papers of the ACL Anthology Network, character by character."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.tasks.base import SPLITS
from harness.tasks.samples import write_documents
from harness.tasks.specs import AanSpec
from harness.tasks.storage.lra_tables import Table, tables
from harness.tasks.storage.mapped import Builder, mapped
from harness.tasks.stored import StoredTask
from harness.tasks.text.characters import Collector, Documents, kept_characters

TABLES = {
    "train": "new_aan_pairs.train.tsv",
    "validation": "new_aan_pairs.eval.tsv",
    "test": "new_aan_pairs.test.tsv",
}
_LABELS = {b"0": 0, b"1": 1, b"0.0": 0, b"1.0": 1}
_LAYOUT = 1  # increase when the arrays change


class Aan(StoredTask):
    """Does one paper of the pair cite the other (1) or not (0)?  x: (batch, 2, length).

    A document occurs in many pairs and is stored once. The vocabulary counts both columns of the
    training pairs, cut as the model sees them.
    """

    def __init__(self, spec: AanSpec, data_dir: Path) -> None:
        kept = kept_characters(spec.length)
        options = {"layout": _LAYOUT, "kept_characters": kept}
        stored = mapped(data_dir, "aan", options, lambda builder: _build(builder, data_dir, kept))
        counts = stored.notes["pairs"]
        starts = np.cumsum([0] + [counts[split] for split in SPLITS])
        split = {name: np.arange(starts[k], starts[k + 1]) for k, name in enumerate(SPLITS)}
        self._pairs = stored.arrays["pairs"]
        self._documents = Documents(stored.arrays)
        occurrences = self._documents.occurrences(
            np.ravel(self._pairs[: counts["train"]]), spec.length
        )
        self.vocabulary = self._documents.vocabulary(
            occurrences, spec.min_frequency, spec.vocabulary
        )
        super().__init__(spec, stored, split, stored.arrays["labels"])
        self.provenance = (
            "pairs of papers of the ACL Anthology Network as the Long Range Arena released them "
            f"with their texts: {counts['train']} / {counts['validation']} / {counts['test']} "
            f"pairs of {stored.notes['documents']} documents; {len(self.vocabulary.symbols)} "
            f"tokens, the characters that occur at least {spec.min_frequency} times in the "
            "training pairs"
        )

    def _take(self, split: str, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        pool = self.pool_rows(split, rows)
        documents = np.ravel(self._pairs[pool])
        x = self._documents.encode(documents, self.info.length, self.vocabulary)
        y = self.stored.arrays["labels"][pool].astype(np.int64)
        return torch.from_numpy(x).reshape(len(rows), 2, self.info.length), torch.from_numpy(y)

    def _balance(self, split: str) -> dict[str, Any]:
        pool = self.pool_rows(split, np.arange(self.sizes[split]))
        documents = np.ravel(self._pairs[pool])
        return super()._balance(split) | self._documents.length_facts(documents, self.info.length)

    def sample(self, directory: str | Path) -> Path:
        """A text file: a few pairs as the model sees them, with their classes."""
        x, y = self.examples("train", np.arange(min(3, self.sizes["train"])))
        names = ("no citation", "one cites the other")
        entries = [
            (names[label], list(pair)) for pair, label in zip(x.numpy(), y.tolist(), strict=True)
        ]
        return write_documents(directory, self, self.vocabulary, entries)


def _build(builder: Builder, data_dir: Path, kept: int) -> None:
    """pairs (pairs, 2) int32, numbers of documents, and labels (pairs,) uint8, split by split."""
    copies: dict[str, tuple[Collector, dict[bytes, int]]] = {}  # by folder

    def read(table: Table) -> tuple[np.ndarray, np.ndarray]:
        return _read(table, *copies.setdefault(table.folder, (Collector(kept), {})))

    folder, parts = tables(builder, data_dir, tuple(TABLES.values()), read, _only_ids)
    collector, known = copies[folder]
    pairs = np.concatenate([parts[TABLES[split]][0] for split in SPLITS])
    # Numbered as they occur in the splits' order, whatever order the tables came in.
    numbers, first = np.unique(pairs, return_index=True)
    order = numbers[np.argsort(first)]
    builder.put("pairs", np.argsort(order)[pairs].astype(np.int32))
    builder.put("labels", np.concatenate([parts[TABLES[split]][1] for split in SPLITS]))
    collector.store(builder, order)
    builder.notes["pairs"] = {split: len(parts[TABLES[split]][1]) for split in SPLITS}
    builder.notes["documents"] = len(known)


def _read(
    table: Table, collector: Collector, known: dict[bytes, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Lines of label, id, id, text, text without a header. Quotes are kept, as in the Long
    Range Arena's own reader; pandas would remove them by default."""
    pairs: list[tuple[int, int]] = []
    labels: list[int] = []
    for number, line in table.lines():
        columns = line.split(b"\t")
        if len(columns) == 3 and columns[0] in _LABELS:
            raise ValueError(f"{table.name}: {_WITHOUT_TEXTS}")
        if len(columns) != 5 or columns[0] not in _LABELS:
            raise table.error(number, "expected label 0 or 1, two ids and two texts, tabs between")
        pairs.append(
            (
                _number(table, number, columns[3], collector, known),
                _number(table, number, columns[4], collector, known),
            )
        )
        labels.append(_LABELS[columns[0]])
    if not labels:
        raise ValueError(f"{table.name} holds no pairs")
    return np.array(pairs, dtype=np.int32), np.array(labels, dtype=np.uint8)


def _number(
    table: Table, line: int, text: bytes, collector: Collector, known: dict[bytes, int]
) -> int:
    """The number of a document, which is stored at its first occurrence."""
    key = hashlib.blake2b(text, digest_size=16).digest()
    if key not in known:
        try:
            known[key] = collector.add(text.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise table.error(line, f"a text is not UTF-8 at its byte {error.start}") from error
    return known[key]


_WITHOUT_TEXTS = (
    "only the ids of AAN's pairs are here; the texts are under AAN's own licence: get the ACL "
    "Anthology Network from aan.how or clair.eecs.umich.edu/aan, and put "
    f"{', '.join(TABLES.values())} with the columns label, id, id, text, text into the folder "
    "downloads"
)


def _only_ids(seen: set[str]) -> str | None:
    """The reason why the tables are missing, if only the tables without texts are there."""
    return _WITHOUT_TEXTS if any(name.endswith(".only_ids.tsv") for name in seen) else None
