"""`pathfinder` and `pathx`: the Long Range Arena's images of contours, from its release.

The archive holds imgs/<d>/sample_<k>.png and metadata/<d>.npy below pathfinder<resolution>/<folder
of the difficulty>/. The latter is text in spite of its name, one line an image, columns apart by
spaces: folder (imgs/<d>), file, number, label, and the generator's settings.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from harness.tasks.archives import members
from harness.tasks.builder import Builder
from harness.tasks.contour_task import ContourTask
from harness.tasks.mapped import mapped
from harness.tasks.specs import PathfinderSpec

FOLDERS = {
    "easy": "curv_baseline",
    "intermediate": "curv_contour_length_9",
    "hard": "curv_contour_length_14",
}
ARCHIVE = "lra_release.gz"

_BUILD = 1  # raise it when the arrays change
_MOST_IMAGES = 210_000  # the release has 200,000 of each kind
_MAX_MEMBER, _MAX_TOTAL = 1 << 24, 30 * 10**9  # bytes


class Pathfinder(ContourTask):
    """The release's images, 80 / 10 / 10 % for training, validation and test.

    In an order drawn by numpy's default_rng(split_seed).permutation, or, with `order="listed"`, in
    that of the folders' numbers and of their metadata, as the Long Range Arena splits them.
    """

    def __init__(self, spec: PathfinderSpec, data_dir: Path) -> None:
        folder = f"pathfinder{spec.resolution}/{FOLDERS[spec.difficulty]}"
        stored = mapped(
            data_dir,
            "pathfinder",
            {"folder": folder, "build": _BUILD},
            lambda builder: _build(builder, folder, spec.resolution),
        )
        order = np.asarray(stored.arrays["order"])
        how = "in the order of its files"
        if spec.order == "random":
            order = np.random.default_rng(spec.split_seed).permutation(order)
            how = f"in an order drawn by seed {spec.split_seed}"
        self.provenance = (
            f"the Long Range Arena's release, {folder}, split 80 / 10 / 10 {how}; "
            f"{stored.notes['empty']} empty image files left out"
        )
        first, second = int(0.8 * len(order)), int(0.9 * len(order))
        train, validation, test = np.split(order, [first, second])
        rows = {"train": train, "validation": validation, "test": test}
        super().__init__(spec, stored, rows)


def _build(builder: Builder, folder: str, resolution: int) -> None:
    """The pool: `images` (n resolution^2,) and `labels` (n,) uint8 in the archive's order, in one
    pass, and `order` (n,) int64, its rows in the metadata's order. n is the number of images."""
    path = builder.archive(ARCHIVE)
    images = builder.grow("images", np.uint8)
    row_of: dict[tuple[int, str], int] = {}
    tables: dict[int, bytes] = {}
    empty: set[tuple[int, str]] = set()
    for kind, number, name, content in _members(path, folder):
        if kind == "metadata":
            tables[number] = content
        elif not content:
            empty.add((number, name))
        elif len(row_of) == _MOST_IMAGES:
            raise ValueError(f"{path}: more than {_MOST_IMAGES} images in {folder}")
        else:
            where = f"{path}: {folder}/imgs/{number}/{name}"
            images.append(pixels(content, resolution, where))
            row_of[number, name] = len(row_of)
    if not tables or not row_of:
        raise ValueError(f"{path} has no {'metadata' if row_of else 'images'} in {folder}")
    labels = np.zeros(len(row_of), dtype=np.uint8)
    order: list[int] = []
    for number, table in sorted(tables.items()):
        for name, label in listed(table, f"{path}: {folder}/metadata/{number}.npy"):
            if (number, name) in empty:
                continue
            row = row_of.pop((number, name), None)
            if row is None:
                raise ValueError(
                    f"{path}: {folder}/metadata/{number}.npy lists {name}, which is not there, "
                    "or lists it twice"
                )
            labels[row] = label
            order.append(row)
    if row_of:
        number, name = next(iter(row_of))
        raise ValueError(
            f"{path}: {len(row_of)} images in {folder} have no label, such as imgs/{number}/{name}"
        )
    builder.put("labels", labels)
    builder.put("order", np.array(order, dtype=np.int64))
    builder.notes |= {"images": len(order), "empty": len(empty)}


def _members(path: Path, folder: str) -> Iterator[tuple[str, int, str, bytes]]:
    """(kind, number of the folder, file name, content) of images ("imgs") and tables
    ("metadata") in `folder`, wherever in the archive that lies."""
    pattern = re.compile(
        rf"(?:.*/)?{re.escape(folder)}/(?:(imgs)/(\d+)/(\w+\.png)|(metadata)/(\d+)\.npy)"
    )
    for member, content in members(
        path, lambda name: pattern.fullmatch(name) is not None, _MAX_MEMBER, _MAX_TOTAL
    ):
        found = pattern.fullmatch(member)
        assert found is not None
        kind, number, name = found[1] or found[4], found[2] or found[5], found[3] or ""
        yield kind, int(number), name, content


def pixels(content: bytes, resolution: int, where: str) -> np.ndarray:
    """A PNG's grey values, (resolution^2,) uint8. Raises ValueError for a damaged one, or one of
    another size."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if image.size != (resolution, resolution):
                raise ValueError(
                    f"{where} has {image.size[0]} x {image.size[1]} pixels, not {resolution} each"
                )
            return np.asarray(image.convert("L")).reshape(-1)
    except (OSError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ValueError(f"{where} is damaged: no readable PNG") from error


def listed(table: bytes, where: str) -> Iterator[tuple[str, int]]:
    """(file name, label) of each line of a metadata file; ValueError names a line that is none."""
    for number, line in enumerate(table.decode("utf-8", errors="replace").splitlines(), start=1):
        columns = line.split()
        if not columns:
            continue
        if len(columns) < 4 or columns[3] not in ("0", "1"):
            raise ValueError(
                f"{where}, line {number}: expected folder, file, number and label (0 or 1); "
                f"found {line[:60]!r}"
            )
        yield columns[1], int(columns[3])
