"""The base of tasks on images read pixel by pixel."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

import numpy as np
import torch

from harness.tasks.base import sample_path
from harness.tasks.specs import ScifarSpec, SmnistSpec
from harness.tasks.storage.mapped import Mapped
from harness.tasks.stored import StoredTask, drawn_split

_SHOWN, _READ = 12, 3  # images on a sheet, and those shown as sequences, too


class PixelTask(StoredTask):
    """Images as sequences. The pool's `images` are uint8, one row each, and its `labels` too; its
    first `notes["train"]` rows are the training part, of which `split_seed` draws the validation
    split, and the rest is the test set.
    """

    def __init__(self, spec: SmnistSpec | ScifarSpec, stored: Mapped) -> None:
        count = int(stored.notes["train"])
        train, validation = drawn_split(count, spec.validation_share, spec.split_seed)
        labels = np.asarray(stored.arrays["labels"])
        rows = {"train": train, "validation": validation, "test": np.arange(count, len(labels))}
        super().__init__(spec, stored, rows, labels)
        self._images = stored.arrays["images"]
        self._time_channel = spec.time_channel

    @abstractmethod
    def _scaled(self, images: np.ndarray) -> np.ndarray:
        """(n, length, channels) float32 of `images`, some rows of the pool."""

    @abstractmethod
    def _pictures(self, images: np.ndarray) -> np.ndarray:
        """(n, side, side) or (n, side, side, 3) uint8 of `images`, to look at."""

    def _take(self, split: str, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        pool = self.pool_rows(split, rows)
        x = self._scaled(np.asarray(self._images[pool]))
        if self._time_channel:
            time = (np.arange(self.info.length) / self.info.length).astype(np.float32)
            channel = np.broadcast_to(time[:, None], (len(x), self.info.length, 1))
            x = np.concatenate([channel, x], axis=-1)
        return torch.from_numpy(x), torch.from_numpy(self.labels(split, rows))

    def sample(self, directory: str | Path) -> Path:
        """A picture: the first training images with their classes, and below them, of the first
        few, the channels that the model reads."""
        from matplotlib.figure import Figure

        rows = np.arange(min(_SHOWN, self.sizes["train"]))
        x, y = self.examples("train", rows)
        pictures = self._pictures(np.asarray(self._images[self.pool_rows("train", rows)]))
        figure = Figure(figsize=(14, 8), layout="constrained")
        sheet, *lines = figure.subplots(1 + _READ, 1, height_ratios=[2] + [1] * _READ)
        sheet.imshow(np.concatenate(list(pictures), axis=1), cmap="gray", vmin=0, vmax=255)
        side = pictures.shape[1]
        sheet.set_xticks((rows + 0.5) * side, [f"class {k}" for k in y.tolist()])
        sheet.set_yticks([])
        for k, line in enumerate(lines[: len(rows)]):
            line.plot(x[k].numpy(), linewidth=0.6)
            line.set(xlabel="step", ylabel=f"image {k + 1}", xlim=(0, self.info.length))
        path = sample_path(directory, f"{self.name}.png")
        figure.savefig(path, dpi=80)
        return path
