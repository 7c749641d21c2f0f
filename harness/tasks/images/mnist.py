"""`smnist`, `psmnist` and `fashion`: MNIST's digits and Fashion-MNIST's clothes, by pixel."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.tasks.images.pixels import PixelTask
from harness.tasks.specs import PsmnistSpec, SmnistSpec
from harness.tasks.storage.archives import gunzip
from harness.tasks.storage.builder import Builder
from harness.tasks.storage.mapped import mapped

_SIDE = 28
_IMAGES, _LABELS = 0x0803, 0x0801  # of unsigned bytes, in three dimensions and in one
_MOST = 100_000  # images in one file
_PROVENANCE = {
    "mnist": "MNIST (LeCun, Cortes, Burges): handwritten digits, from its idx files",
    "fashion": "Fashion-MNIST (Xiao, Rasul, Vollgraf; Zalando): clothes, from its idx files",
}


class Mnist(PixelTask):
    """MNIST, 784 steps in [0, 1]; for `psmnist` in one order for all images.

    That order is numpy's default_rng(permutation_seed).permutation(784): step k shows pixel
    order[k].
    """

    def __init__(self, spec: SmnistSpec, data_dir: Path) -> None:
        assert spec.folder is not None
        self.provenance = _PROVENANCE[spec.folder]
        self._order = np.arange(_SIDE**2)
        if isinstance(spec, PsmnistSpec):
            self._order = np.random.default_rng(spec.permutation_seed).permutation(_SIDE**2)
        build = functools.partial(_build, spec.archives)
        super().__init__(spec, mapped(data_dir, spec.folder, {"build": 1}, build))

    def _scaled(self, images: np.ndarray) -> np.ndarray:
        return (images[:, self._order, None] / np.float32(255)).astype(np.float32)

    def _pictures(self, images: np.ndarray) -> np.ndarray:
        return images.reshape(-1, _SIDE, _SIDE)


def _build(archives: Sequence[str], builder: Builder) -> None:
    """The pool: `images` (n, 784) and `labels` (n,), uint8, training part first."""
    images, labels = [], []
    for pictures, classes in (archives[:2], archives[2:]):
        picture_path, label_path = builder.archive(pictures), builder.archive(classes)
        images.append(read_idx(picture_path, _IMAGES, (_SIDE, _SIDE)).reshape(-1, _SIDE**2))
        labels.append(read_idx(label_path, _LABELS, ()))
        if len(images[-1]) != len(labels[-1]):
            raise ValueError(
                f"{picture_path} has {len(images[-1])} images, "
                f"{label_path.name} {len(labels[-1])} labels"
            )
        if labels[-1].max() > 9:
            raise ValueError(f"{label_path} has label {labels[-1].max()}, outside 0..9")
    builder.put("images", np.concatenate(images))
    builder.put("labels", np.concatenate(labels))
    builder.notes |= {"train": len(labels[0]), "test": len(labels[1])}


def read_idx(path: Path, magic: int, shape: tuple[int, ...]) -> np.ndarray:
    """The content of a compressed idx file of bytes, (count, *shape) uint8.

    An idx file is big-endian: the magic number, the size of each dimension (32 bits each), the
    bytes. Raises ValueError for a wrong magic number, shape or number of bytes.
    """
    header, row = 4 * (2 + len(shape)), int(np.prod(shape, dtype=int))
    content = gunzip(path, header + _MOST * row)
    if len(content) < header or content[:4] != magic.to_bytes(4, "big"):
        found = content[:4].hex() or "nothing"
        raise ValueError(f"{path} does not begin with idx magic {magic:08x} but with {found}")
    count, *sizes = np.frombuffer(content, ">u4", count=1 + len(shape), offset=4).tolist()
    if tuple(sizes) != shape or count == 0:
        raise ValueError(f"{path} holds an array of {(count, *sizes)}, not (count, *{shape})")
    body = len(content) - header
    if body != count * row:
        raise ValueError(f"{path} announces {count} items of {row} bytes and holds {body} bytes")
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(count, *shape)
