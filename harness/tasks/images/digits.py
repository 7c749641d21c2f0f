"""`digits`: images as long sequences of pixels."""

from __future__ import annotations

import functools
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.tasks.base import Task, class_counts, digest, sample_path
from harness.tasks.specs import DigitsSpec
from harness.tasks.stratified import stratified_split

_SIZES = {"train": 1000, "validation": 397, "test": 400}
_BRIGHTEST = 16  # scikit-learn's digits have 17 grey values


class Digits(Task):
    """1,797 real handwritten digits of 8 x 8 pixels, read row by row as 64 steps of one channel.

    Split by `split_seed`, each split with the same mix of classes; pixels scaled to [0, 1].
    """

    def __init__(self, spec: DigitsSpec, data_dir: Path | None = None) -> None:
        self.name, self.family = spec.name, spec.family
        self.metric, self.info = spec.metric, spec.info
        self.sizes = dict(_SIZES)
        self.provenance = (
            "real handwritten digits (UCI Optical Recognition of Handwritten Digits, test part) "
            "as shipped with scikit-learn"
        )
        self._pixels, self._labels = _load(spec.split_seed)
        arrays = {f"{split}/x": x for split, x in self._pixels.items()}
        arrays |= {f"{split}/y": y for split, y in self._labels.items()}
        self.fingerprint = digest(arrays)
        pixels, labels = _pool()
        self.pool_fingerprint = digest({"x": pixels, "y": labels})

    def _take(self, split: str, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.from_numpy(self._pixels[split][rows]).unsqueeze(-1)
        return x, torch.from_numpy(self._labels[split][rows])

    def _balance(self, split: str) -> dict[str, Any]:
        return class_counts(self._labels[split], self.info.outputs)

    def sample(self, directory: str | Path) -> Path:
        """A picture: twelve images, and below each the sequence that the model reads."""
        from matplotlib.figure import Figure

        pixels, y = self.examples("train", np.arange(12))
        x = pixels.numpy()
        figure = Figure(figsize=(12, 6), layout="constrained")
        grid = figure.subplots(4, 6)
        for k in range(12):
            image, line = grid[2 * (k // 6), k % 6], grid[2 * (k // 6) + 1, k % 6]
            image.imshow(x[k].reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
            image.set_title(f"class {int(y[k])}")
            image.set_axis_off()
            line.plot(x[k, :, 0], linewidth=1)
            line.set(ylim=(0, 1), xlabel="step")
        path = sample_path(directory, "digits.png")
        figure.savefig(path, dpi=100)
        return path


def _load(split_seed: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Pixels {split: (n, 64) float32 in [0, 1]} and labels {split: (n,) int64}."""
    pixels, labels = _pool()
    train, rest = stratified_split(labels, _SIZES["train"], split_seed)
    validation, test = stratified_split(labels[rest], _SIZES["validation"], split_seed)
    rows = {"train": train, "validation": rest[validation], "test": rest[test]}
    return {k: pixels[v] for k, v in rows.items()}, {k: labels[v] for k, v in rows.items()}


@functools.cache
def _pool() -> tuple[np.ndarray, np.ndarray]:
    """All pixels, (1797, 64) float32 in [0, 1], and labels, (1797,) int64, in the file's order."""
    path = _file()
    try:
        table = np.loadtxt(path, delimiter=",").reshape(sum(_SIZES.values()), 65)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise ValueError(f"{path} is damaged: scikit-learn must be installed again") from error
    return (table[:, :-1] / _BRIGHTEST).astype(np.float32), table[:, -1].astype(np.int64)


def _file() -> Path:
    """The file that `sklearn.datasets.load_digits` reads; importing it would take seconds."""
    package = find_spec("sklearn")
    for folder in package.submodule_search_locations or () if package else ():
        path = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            return path
    raise ValueError("digits come with scikit-learn, which is not installed whole")
