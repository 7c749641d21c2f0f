"""The training, validation and test splits: as given, or drawn."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.tasks.base import SPLITS
from harness.tasks.specs.own import Content, OwnSpec
from harness.tasks.stratified import stratified_split
from harness.tools.inputs import cut, shown

WORDS = {"train": 0, "training": 0, "validation": 1, "valid": 1, "val": 1, "test": 2}


def named_splits(path: Path, files: Sequence[Path]) -> list[int] | None:
    """The split named by each file, as an index into SPLITS, if all names are those of splits and
    include train and test."""
    if files == [path]:
        return None
    codes = [WORDS.get(file.stem.lower()) for file in files]
    if None in codes or not {0, 2} <= set(codes):
        return None
    return [code for code in codes if code is not None]


def split_codes(words: np.ndarray | None, where: str) -> np.ndarray:
    """(n,) int8 indices into SPLITS of names such as train. Raises ValueError for unknown names."""
    assert words is not None
    if words.ndim != 1 or words.dtype.kind != "U":
        raise ValueError(
            f"{where}: split has shape {words.shape} of {words.dtype}, not one word a sequence"
        )
    known, codes = np.unique(words, return_inverse=True)
    for word in known.tolist():
        if word not in WORDS:
            raise ValueError(f"{where}: split holds {shown(word, 60)}, not train, validation, test")
    return np.array([WORDS[word] for word in known.tolist()], dtype=np.int8)[codes]


def split_rows(
    spec: OwnSpec,
    count: int,
    labels: np.ndarray | None,
    given: np.ndarray | None,
    listed: bool = False,
) -> dict[str, np.ndarray]:
    """{split: (n,) int64 rows} of `count` examples.

    given: (count,) indices into SPLITS, or None; a missing validation split is drawn from the
    training split. labels: (count,) classes, which every drawn split has in the same proportions,
    or None. listed: take the last examples, not drawn ones, to validate and test.
    Raises ValueError if a split would be empty.
    """
    seed = None if listed else spec.split_seed
    part = functools.partial(_part, labels=labels, seed=seed)
    if given is not None:
        rows = {split: np.flatnonzero(given == code) for code, split in enumerate(SPLITS)}
        if not len(rows["validation"]):
            rows["train"], rows["validation"] = part(
                rows["train"], _size(spec.validation_share, count)
            )
    else:
        rest, test = part(np.arange(count), _size(spec.test_share, count))
        train, validation = part(rest, _size(spec.validation_share, count))
        rows = {"train": train, "validation": validation, "test": test}
    for split in SPLITS:
        if not len(rows[split]):
            raise ValueError(f"{cut(spec.path)}: of {count} examples none are left for {split}")
    return {split: rows[split].astype(np.int64) for split in SPLITS}


def with_sizes(content: Content, rows: dict[str, np.ndarray]) -> Content:
    """The content, with the number of training and validation examples."""
    sizes = {split: len(rows[split]) for split in ("train", "validation")}
    return content.model_copy(update=sizes)


def check_classes(
    where: str, labels: np.ndarray, rows: dict[str, np.ndarray], names: Sequence[Any]
) -> None:
    """Raises ValueError if a split has a class that training lacks.

    labels: (n, ...) codes into `names`.
    """
    trained = np.unique(labels[rows["train"]])
    for split in SPLITS[1:]:
        more = np.setdiff1d(labels[rows[split]], trained)
        if len(more):
            name = shown(_plain(names[int(more[0])]), 60)
            like = f", like {len(more) - 1} more" if len(more) > 1 else ""
            raise ValueError(
                f"{where}: class {name} is in the {split} split and not in training{like}"
            )
    absent = len(names) - len(trained)
    if absent:
        raise ValueError(f"{cut(where)}: {absent} of {len(names)} classes are not in training")


def _plain(name: Any) -> Any:
    return name.item() if isinstance(name, np.generic) else name


def _size(share: float, count: int) -> int:
    return max(1, round(share * count))


def _part(
    rows: np.ndarray, held: int, labels: np.ndarray | None, seed: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """(all others, `held` of the rows); without a seed, the held ones are the last."""
    if held >= len(rows):
        return rows[:0], rows
    if seed is None:
        return rows[:-held], rows[-held:]
    if labels is not None:
        chosen, others = stratified_split(labels[rows], held, seed)
        return rows[others], rows[chosen]
    order = np.random.default_rng(seed).permutation(len(rows))
    return rows[order[held:]], rows[order[:held]]
