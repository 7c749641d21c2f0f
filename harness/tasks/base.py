"""What a task is: shapes, splits, a metric with its direction, a fingerprint and a sample."""

from __future__ import annotations

import functools
import hashlib
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from harness.tasks.metrics import METRICS, Metric

if TYPE_CHECKING:
    import torch

Family = Literal["long_range", "language", "audio", "control", "own"]
Kind = Literal["classification", "next_token", "regression"]

KINDS = ("classification", "next_token", "regression")
SPLITS = ("train", "validation", "test")
UNSCORED = -100  # as a target: this step is neither trained nor scored (torch's `ignore_index`)


@dataclass(frozen=True)
class TaskInfo:
    """The shapes that a model and its FLOP count need.

    kind: what is predicted; outputs: size of the logits' last axis; length: steps per sequence.
    inputs: real channels per step, or vocabulary: number of distinct tokens; exactly one is set.
    paired: each example is two sequences, (batch, 2, length).
    pooled: a regression has one answer for the whole sequence, as a classification always has,
    rather than one at every step.
    unscored: targets may be `UNSCORED`.
    """

    kind: Kind
    outputs: int
    length: int
    inputs: int | None = None
    vocabulary: int | None = None
    paired: bool = False
    pooled: bool = False
    unscored: bool = False

    def described(self) -> dict[str, Any]:
        """The fields as JSON values, without those that older files lack where they say nothing."""
        return {k: v for k, v in asdict(self).items() if k != "unscored" or v}

    @property
    def pools(self) -> bool:
        """Whether the model answers once, from the mean over all steps."""
        return self.kind == "classification" or self.pooled

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {self.kind!r}")
        if (self.inputs is None) == (self.vocabulary is None):
            raise ValueError(
                f"exactly one of inputs and vocabulary must be set; "
                f"got inputs {self.inputs}, vocabulary {self.vocabulary}"
            )
        for field in ("outputs", "length", "inputs", "vocabulary"):
            value = getattr(self, field)
            if value is not None and (isinstance(value, bool) or value < 1):
                raise ValueError(f"{field} must be an integer of at least 1; got {value!r}")


class Task(ABC):
    """Data plus metric. Subclasses set the attributes below and say how to take examples."""

    name: str
    family: Family
    info: TaskInfo
    metric: Metric
    fingerprint: str  # SHA-256, hex, of the data as the model sees them, split by split
    sizes: dict[str, int]  # examples per split
    provenance: str  # where the data come from, in one sentence

    @property
    def higher_is_better(self) -> bool:
        return METRICS[self.metric].higher_is_better

    @functools.cached_property
    def pool_fingerprint(self) -> str:
        """`fingerprint` without the drawn split, so the same for all seeds of the split."""
        return self.fingerprint

    def verify(self) -> None:  # noqa: B027  (most tasks check their data when reading them)
        """Check stored data byte by byte; ValueError names what is damaged."""

    def examples(self, split: str, indices: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """The examples of `split` at `indices` (an array of integers in 0..size-1), on the CPU.

        x: (batch, length, inputs) float32, or (batch, length) int64 tokens.
        y: (batch,) int64 classes, or (batch, length) int64, one at every step; of a regression
        (batch, length, outputs) float32, or (batch, outputs) if there is one answer for all steps.
        Where `info.unscored`, a target that is `UNSCORED` is neither trained nor scored; every
        example has at least one other.
        Raises ValueError for an unknown split or an index out of range.
        """
        if split not in self.sizes:
            raise ValueError(f"no split named {split!r}; the splits are {', '.join(self.sizes)}")
        rows = np.asarray(indices)
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
            raise ValueError(f"indices must be a vector of integers; got {rows.dtype} {rows.shape}")
        size = self.sizes[split]
        if rows.size and (rows.min() < 0 or rows.max() >= size):
            raise ValueError(
                f"index {rows.min()}..{rows.max()} is outside split {split!r} of {size} examples"
            )
        return self._take(split, rows.astype(np.int64))

    @abstractmethod
    def _take(self, split: str, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """`examples` after its arguments have been checked."""

    @abstractmethod
    def sample(self, directory: str | Path) -> Path:
        """Write a file that shows or plays what the model sees, and return its path. Raises
        SampleError or OSError if it cannot be written."""

    @abstractmethod
    def _balance(self, split: str) -> dict[str, Any]:
        """The targets of `split`, for `summary`."""

    def summary(self) -> dict[str, Any]:
        """Counts, balance of the targets, fingerprint and origin, ready for JSON."""
        return {
            "name": self.name,
            "family": self.family,
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "sizes": dict(self.sizes),
            "balance": {split: self._balance(split) for split in self.sizes},
            "fingerprint": self.fingerprint,
            "provenance": self.provenance,
        }


def digest(arrays: dict[str, np.ndarray], note: str = "") -> str:
    """SHA-256, hex, of named arrays: names, dtypes, shapes and bytes, in the order of names."""
    state = hashlib.sha256(note.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        state.update(f"|{name}:{array.dtype.str}:{array.shape}|".encode())
        state.update(array.data if array.size else b"")
    return state.hexdigest()


def class_counts(labels: np.ndarray, classes: int) -> dict[str, Any]:
    """Examples per class, and the share of the largest class: the accuracy of blind guessing."""
    counts = np.bincount(labels, minlength=classes)
    return {"classes": counts.tolist(), "majority_share": float(counts.max() / counts.sum())}


class SampleError(ValueError):
    """A sample cannot be written to its folder; the data may still be fine."""


def sample_path(directory: str | Path, filename: str) -> Path:
    """`directory`/`filename`, with the directory created; SampleError if that fails."""
    try:
        Path(directory).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SampleError(f"cannot write a sample under {directory}: {error.strerror}") from error
    return Path(directory) / filename
