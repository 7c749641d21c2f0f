"""The base of the tasks on marked contours, drawn here or released elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from harness.tasks.base import sample_path
from harness.tasks.specs import PathfinderGeneratedSpec, PathfinderSpec
from harness.tasks.storage.mapped import Mapped
from harness.tasks.stored import StoredTask

_SHOWN = 6  # images of each label on a sheet
_ANSWERS = ("two contours", "one contour")


class ContourTask(StoredTask):
    """Are the two marked tips ends of one contour (1) or of two (0)? Images read row by row.

    The pool's `images` are n x resolution^2 uint8, flat or not, its `labels` (n,) uint8. x is
    (batch, resolution^2, 1) float32 in [0, 1], or in [-1, 1] where the spec's scaling is signed.
    """

    def __init__(
        self,
        spec: PathfinderSpec | PathfinderGeneratedSpec,
        stored: Mapped,
        rows: dict[str, np.ndarray],
    ) -> None:
        super().__init__(spec, stored, rows, np.asarray(stored.arrays["labels"]))
        self._images = stored.arrays["images"].reshape(-1, spec.resolution**2)
        self._signed, self._side = spec.scaling == "signed", spec.resolution

    def _take(self, split: str, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        x = np.asarray(self._images[self.pool_rows(split, rows)])[..., None] / np.float32(255)
        if self._signed:
            x = 2 * x - 1
        return torch.from_numpy(x), torch.from_numpy(self.labels(split, rows))

    def sample(self, directory: str | Path) -> Path:
        """A picture: the first training images of each label, and one as the model reads it."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(16, 8), layout="constrained")
        grid = figure.add_gridspec(3, _SHOWN, height_ratios=[3, 3, 1])
        labels = self.labels("train")
        for label in (1, 0):
            for k, row in enumerate(np.flatnonzero(labels == label)[:_SHOWN]):
                pixels = self._images[self.pool_rows("train", row)]
                image = figure.add_subplot(grid[1 - label, k])
                image.imshow(pixels.reshape(self._side, -1), cmap="gray", vmin=0, vmax=255)
                image.set_title(f"label {label}: {_ANSWERS[label]}", fontsize=10)
                image.set_axis_off()
        x, y = self.examples("train", np.zeros(1, dtype=np.int64))
        line = figure.add_subplot(grid[2, :])
        line.plot(x[0, :, 0].numpy(), linewidth=0.5)
        line.set(xlim=(0, self.info.length), xlabel=f"step; first training image, label {int(y)}")
        path = sample_path(directory, f"{self.name}.png")
        figure.savefig(path, dpi=90)
        return path
