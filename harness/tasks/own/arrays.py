"""`arrays`: sequences of numbers or tokens from the user's own files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.tasks.base import class_counts, sample_path
from harness.tasks.own.checks import check_same, check_unchanged, facts
from harness.tasks.own.content import content_sha256, files_of
from harness.tasks.own.moments import Scale, moments
from harness.tasks.own.sequences import READERS, Sequences, read, rows_of
from harness.tasks.specs.own import ArraysSpec
from harness.tasks.storage.builder import Builder
from harness.tasks.storage.mapped import Mapped, mapped
from harness.tasks.stored import StoredTask
from harness.tools.inputs import cut

_BUILD = 1  # increase when the arrays change
# Fields of a spec that decide the stored arrays.
_DECIDING = {
    "predict", "per", "x_columns", "y_columns", "sequence_column", "split_column", "window",
}  # fmt: skip
_SHOWN = 6  # sequences in a sample


class Arrays(StoredTask):
    """Sequences as their files hold them, each channel scaled by the training split.

    x: (batch, length, channels) float32, zero beyond a sequence's own length, or (batch, length)
    tokens; y: classes, or numbers, scaled likewise; to predict the next step, y is x one step
    later, and both are a step shorter than in the file.
    """

    def __init__(self, spec: ArraysSpec, data_dir: Path) -> None:
        path = Path(spec.path)
        check_unchanged(spec, content_sha256(path, files_of(path, tuple(READERS), deep=False)))
        options = {"build": _BUILD, "content": spec.seen("sha256")}
        options |= spec.model_dump(mode="json", include=_DECIDING, exclude_none=True)
        stored = mapped(data_dir, spec.name, options, lambda builder: _build(builder, spec, path))
        self._spec, arrays = spec, stored.arrays
        check_same(spec, stored.notes["content"])
        self._classes = stored.notes["classes"]
        labels = np.asarray(arrays["y"]) if spec.predict == "class" else None
        single = labels if spec.per == "sequence" else None
        given = np.asarray(arrays["split"]) if "split" in arrays else None
        rows = rows_of(spec, len(arrays["lengths"]), labels, given, self._classes)
        super().__init__(spec, stored, rows, single)
        self._x, self._y = arrays["x"], arrays.get("y")
        self._lengths = np.asarray(arrays["lengths"])
        train = self.pool_rows("train", np.arange(self.sizes["train"]))
        self._x_scale = _scale(stored, "x", train, self._lengths, spec.normalise_x)
        ones = np.full(len(self._lengths), 1 if spec.per == "sequence" else self._x.shape[1])
        self._y_scale = _scale(stored, "y", train, ones, spec.normalise_y)
        self.provenance = (
            f"{cut(spec.path)}: {len(self._lengths)} sequences of up to {self._x.shape[1]} steps, "
            f"SHA-256 {spec.seen('sha256')}"
        )

    def _take(self, split: str, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        pool = self.pool_rows(split, rows)
        x = np.asarray(self._x[pool])
        if self.info.vocabulary is not None:
            x = x.astype(np.int64)
        else:
            x = self._x_scale(x)
            x[np.arange(x.shape[1]) >= self._lengths[pool, None]] = 0.0
        if self._spec.predict == "next_step":
            return torch.from_numpy(x[:, :-1].copy()), torch.from_numpy(x[:, 1:].copy())
        assert self._y is not None
        y = np.asarray(self._y[pool])
        y = y.astype(np.int64) if self._spec.predict == "class" else self._y_scale(y)
        return torch.from_numpy(x), torch.from_numpy(y)

    def _balance(self, split: str) -> dict[str, Any]:
        rows = self.pool_rows(split, np.arange(self.sizes[split]))
        steps = {"steps": int(self._lengths[rows].sum())}
        if self._spec.predict == "class":
            assert self._y is not None
            counts = class_counts(np.asarray(self._y[rows]).ravel(), self.info.outputs)
            return {"names": self._classes, **counts, **steps}
        return steps

    def summary(self) -> dict[str, Any]:
        """Also the scales of x and y."""
        scales = {"x": self._x_scale.told(), "y": self._y_scale.told()}
        return super().summary() | {"scaled": {k: v for k, v in scales.items() if v}}

    def sample(self, directory: str | Path) -> Path:
        """A picture: the first training sequences as the model reads them, with their targets."""
        from matplotlib.figure import Figure

        count = min(_SHOWN, self.sizes["train"])
        x, y = self.examples("train", np.arange(count))
        figure = Figure(figsize=(12, 1.8 * count + 0.5), layout="constrained")
        for k, axes in enumerate(figure.subplots(count, 1, squeeze=False)[:, 0]):
            axes.plot(x[k].numpy(), linewidth=0.7)
            if y[k].ndim and not self.info.pools:
                axes.plot(y[k].numpy(), linewidth=0.7, linestyle="--", color="black")
                axes.set_title("dashed: what it answers", fontsize=8)
            elif self._spec.predict == "class":
                axes.set_title(f"class {self._classes[int(y[k])]}", fontsize=8)
            else:
                axes.set_title(f"value {y[k].tolist()}", fontsize=8)
        path = sample_path(directory, f"{self.name}.png")
        figure.savefig(path, dpi=80)
        return path


def _build(builder: Builder, spec: ArraysSpec, path: Path) -> None:
    """`x` (n, length, channels) or (n, length), zero beyond each sequence's end; `lengths` (n,);
    `y` and `split` if given; and for numeric x and y the moments of each sequence."""
    found = read(spec, path)
    check_unchanged(spec, found.sha256)
    count = len(found.lengths)
    dtype = np.result_type(*(part.dtype for part in found.parts)).newbyteorder("=")
    channels = () if found.channels is None else (found.channels,)
    x = builder.create("x", (count, found.length, *channels), dtype)
    means, spreads = (np.zeros((count, *channels)) for _ in range(2))
    for rows, piece, where in found.pieces():
        steps = np.arange(piece.shape[1]) < found.lengths[rows, None]
        if found.channels is None:
            x[rows, : piece.shape[1]] = np.where(steps, piece, 0)
            continue
        kept = np.where(steps[..., None], piece, 0)
        _check_numbers(kept, rows.start, where)
        x[rows, : piece.shape[1]] = kept
        means[rows], spreads[rows] = moments(kept, found.lengths[rows])
    if found.channels is not None:
        builder.put("x_means", means)
        builder.put("x_spreads", spreads)
    builder.put("lengths", found.lengths)
    if found.split is not None:
        builder.put("split", found.split)
    if found.y is not None:
        _put_targets(builder, spec, found, found.y)
    check_unchanged(spec, content_sha256(path, files_of(path, tuple(READERS), deep=False)))
    builder.notes |= {
        "path": str(path),
        "content": facts(found.content(spec, path)),
        "classes": [] if found.classes is None else found.classes.tolist(),
        "padded": int((found.lengths < found.length).sum()),
        "splits": "given" if found.split is not None else "drawn",
    }


def _put_targets(builder: Builder, spec: ArraysSpec, found: Sequences, y: np.ndarray) -> None:
    if spec.predict == "class":
        builder.put("y", y.astype(np.min_scalar_type(int(y.max()))))
        return
    _check_numbers(y, 0, f"{cut(spec.path)}: y")
    builder.put("y", y)
    steps = y[:, None] if spec.per == "sequence" else y
    means, spreads = moments(steps, np.full(len(y), steps.shape[1]))
    builder.put("y_means", means)
    builder.put("y_spreads", spreads)


def _check_numbers(values: np.ndarray, begin: int, where: str) -> None:
    """Raises ValueError for values not finite in float32; `begin` is the first row's number."""
    if values.dtype.kind != "f":
        return
    with np.errstate(over="ignore"):
        finite = np.isfinite(values.astype(np.float32, copy=False))
    if finite.all():
        return
    row, *place = np.argwhere(~finite)[0].tolist()
    found = values[(row, *place)]
    state = "NaN or infinite" if not np.isfinite(found) else f"{found}, beyond single precision"
    at = ", ".join(f"{name} {k + 1}" for name, k in zip(("step", "channel"), place, strict=False))
    raise ValueError(f"{where}: sequence {begin + row + 1} is {state} at {at}")


def _scale(
    stored: Mapped, name: str, train: np.ndarray, lengths: np.ndarray, wanted: bool
) -> Scale:
    if not wanted or f"{name}_means" not in stored.arrays:
        return Scale(None, None)
    means, spreads = (np.asarray(stored.arrays[f"{name}_{of}"]) for of in ("means", "spreads"))
    return Scale.of(means[train], spreads[train], lengths[train])
