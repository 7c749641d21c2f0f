"""`scifar`: CIFAR-10's images, pixel by pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.tasks.images.pixels import PixelTask
from harness.tasks.specs import ScifarSpec
from harness.tasks.storage.archives import below_one_root
from harness.tasks.storage.builder import Builder
from harness.tasks.storage.mapped import mapped

_SIDE = 32
_PIXELS = _SIDE**2
_RECORD = 1 + 3 * _PIXELS  # bytes: the label, then the red, green and blue planes
_TRAIN = tuple(f"data_batch_{k}.bin" for k in range(1, 6))
_TEST = "test_batch.bin"
_FILE = r"data_batch_[1-5]\.bin|test_batch\.bin"
_MOST = 100_000 * _RECORD  # bytes of one file

# From the paper's code, for pixels in [0, 1]; that code took them from others.
_MEAN = np.array([0.4914, 0.4822, 0.4465], dtype=np.float32)
_DEVIATION = np.array([0.2023, 0.1994, 0.2010], dtype=np.float32)


class Cifar(PixelTask):
    """CIFAR-10, 1,024 steps of red, green, blue, or of their grey value."""

    def __init__(self, spec: ScifarSpec, data_dir: Path) -> None:
        self.provenance = "CIFAR-10 (Krizhevsky): small colour photographs, from its binary version"
        self._grayscale, self._scaling = spec.grayscale, spec.scaling
        super().__init__(spec, mapped(data_dir, "cifar", {"build": 1}, _build))

    def _scaled(self, images: np.ndarray) -> np.ndarray:
        pixels = gray(images)[..., None] if self._grayscale else images
        unit = pixels.astype(np.float32) / np.float32(255)
        return (unit - _MEAN) / _DEVIATION if self._scaling == "channel" else unit

    def _pictures(self, images: np.ndarray) -> np.ndarray:
        if self._grayscale:
            return gray(images).reshape(-1, _SIDE, _SIDE)
        return images.reshape(-1, _SIDE, _SIDE, 3)


def gray(colours: np.ndarray) -> np.ndarray:
    """Luma of (..., 3) uint8 colours, (...) uint8.

    ITU-R 601-2: 0.299 R + 0.587 G + 0.114 B, rounded, in Pillow's fixed point of 16 bits.
    """
    weights = np.array([19595, 38470, 7471], dtype=np.int64)
    return ((colours.astype(np.int64) @ weights + 0x8000) >> 16).astype(np.uint8)


def _build(builder: Builder) -> None:
    """The pool: `images` (n, 1024, 3) and `labels` (n,), uint8, training part first."""
    path = builder.archive("cifar-10-binary.tar.gz")
    files = {
        match["key"]: file.read() for match, file in below_one_root(path, _FILE, _MOST, 6 * _MOST)
    }
    missing = [name for name in (*_TRAIN, _TEST) if name not in files]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}: is it the binary version?")
    parts = [_records(path, name, files[name]) for name in (*_TRAIN, _TEST)]
    builder.put("images", np.concatenate([images for images, _ in parts]))
    builder.put("labels", np.concatenate([labels for _, labels in parts]))
    count = sum(len(labels) for _, labels in parts[:-1])
    builder.notes |= {"train": count, "test": len(parts[-1][1])}


def _records(path: Path, name: str, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 1024, 3) and labels (n,), uint8, of one file of records."""
    if not content or len(content) % _RECORD:
        raise ValueError(
            f"{path}: {name} has {len(content)} bytes, not whole records of {_RECORD} bytes"
        )
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, _RECORD)
    labels = records[:, 0]
    if labels.max() > 9:
        raise ValueError(f"{path}: {name} has label {labels.max()}, outside 0..9")
    return records[:, 1:].reshape(-1, 3, _PIXELS).transpose(0, 2, 1), labels
