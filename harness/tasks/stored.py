"""Tasks whose data are processed once and then mapped from disk."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.tasks.base import SPLITS, Task, class_counts, digest
from harness.tasks.specs import TaskSpecBase
from harness.tasks.storage.mapped import Mapped
from harness.tasks.storage.sources import SOURCES

# Fields that draw or cut the splits; all others change what the model sees.
_OF_THE_SPLIT = frozenset({*SPLITS, "split_seed", "validation_share", "test_share"})


class StoredTask(Task):
    """A task on mapped arrays. Subclasses give `_take` (by `pool_rows`) and `sample`.

    stored: the arrays, one pool of examples; rows: {split: (n,) int64 rows of the pool}, of which
    each split keeps the first `spec.train`, `spec.validation`, `spec.test` (None: all); labels:
    (pool,) integers, None where the targets are not classes (`_balance` is then the subclass's).
    Raises ValueError if a split has fewer examples than asked for.
    """

    def __init__(
        self,
        spec: TaskSpecBase,
        stored: Mapped,
        rows: dict[str, np.ndarray],
        labels: np.ndarray | None,
    ) -> None:
        self.name, self.family = spec.name, spec.family  # type: ignore[attr-defined]
        self.metric, self.info = spec.metric, spec.info
        self.stored, self._labels = stored, labels
        self._rows = {split: _first(spec, split, rows[split]) for split in SPLITS}
        self.sizes = {split: len(kept) for split, kept in self._rows.items()}
        view = spec.model_dump(
            mode="json", exclude={**dict.fromkeys(_OF_THE_SPLIT, True), **spec.not_identity}
        )
        note = f"{stored.digest} {sorted(view.items())}"
        self.fingerprint = digest(self._rows, note)
        self.pool_fingerprint = digest({}, note)

    def pool_rows(self, split: str, rows: np.ndarray) -> np.ndarray:
        """Rows of the pool, (n,) int64, of the examples of `split` at `rows`."""
        return self._rows[split][rows]

    def labels(self, split: str, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """(n,) int64 classes of the examples of `split` at `rows`, or of all."""
        assert self._labels is not None, "a task of classes has labels"
        return self._labels[self._rows[split][rows]].astype(np.int64)

    def verify(self) -> None:
        """The arrays, and the archives that are still there; ValueError names what is wrong."""
        from harness.tasks.storage.download import downloads, verify

        self.stored.verify()
        data_dir = self.stored.folder.parent.parent
        for name in self.stored.archives:
            if name in SOURCES and (downloads(data_dir) / name).is_file():
                verify(name, data_dir)

    def _balance(self, split: str) -> dict[str, Any]:
        return class_counts(self.labels(split), self.info.outputs)

    def summary(self) -> dict[str, Any]:
        """Also the archives with their SHA-256, where the arrays are, and the builder's notes."""
        return super().summary() | {
            "archives": self.stored.archives,
            "unchecked": list(self.stored.unchecked),
            "cache": str(self.stored.folder),
            "notes": self.stored.notes,
        }


def drawn_split(
    count: int, validation_share: float, split_seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(train, validation) rows, int64, of `count` examples in an order drawn by `split_seed`.

    validation: round(validation_share x count) of them, at least 1. Raises ValueError if
    nothing is left to train on.
    """
    held = max(1, round(validation_share * count))
    if held >= count:
        raise ValueError(f"{count} examples leave none to train on beside {held} for validation")
    order = np.random.default_rng(split_seed).permutation(count).astype(np.int64)
    return order[held:], order[:held]


def _first(spec: TaskSpecBase, split: str, rows: np.ndarray) -> np.ndarray:
    """The first rows of a split, as many as the spec asks for."""
    wanted, name = getattr(spec, split), spec.name  # type: ignore[attr-defined]
    if not len(rows):
        raise ValueError(f"{name} has no {split} examples: its data are too few to be split")
    if wanted is not None and wanted > len(rows):
        raise ValueError(f"{name} has {len(rows)} {split} examples; asked for {wanted}")
    return np.asarray(rows[:wanted], dtype=np.int64)
