"""`pathfinder` and `pathx`: the Long Range Arena's images of contours, from its release.

The archive holds imgs/<d>/sample_<k>.png and metadata/<d>.npy below pathfinder<resolution>/<folder
of the difficulty>/. The latter is text in spite of its name, one line an image, columns apart by
spaces: folder (imgs/<d>), file, number, label, and the generator's settings.
"""

from __future__ import annotations

import io
import re
import struct
import sys
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from harness.tasks.pathfinder.contour_task import ContourTask
from harness.tasks.specs import PathfinderSpec
from harness.tasks.storage.archives import rooted
from harness.tasks.storage.builder import Builder, Growing
from harness.tasks.storage.mapped import mapped
from harness.tools.inputs import cut, shown

FOLDERS = {
    "easy": "curv_baseline",
    "intermediate": "curv_contour_length_9",
    "hard": "curv_contour_length_14",
}
ARCHIVE = "lra_release.gz"

Place = tuple[int, str]  # of an image: the number of its folder in imgs, and its file

_BUILD = 1  # increase when the arrays change
_MOST_IMAGES = 210_000  # the release has 200,000 of each kind
_LISTED_FOLDER = re.compile(r"imgs/([0-9]{1,9})/?")
# What Pillow raises for corrupted bytes.
_NO_PNG = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, OverflowError)
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
        if len(stored.arrays["images"]) != len(stored.arrays["labels"]) * spec.resolution**2:
            raise ValueError(
                f"{stored.folder} was made of two copies of {folder}, by a version that mixed them "
                "up: remove it and it is built again"
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
    pass, and `order` (n,) int64, its rows in the metadata's order. n is the number of images.

    The release holds some folders at two depths: each is a copy of its own, and the largest of
    those whose images and metadata agree is used, with a note.
    """
    path = builder.archive(ARCHIVE)
    copies: dict[str, _Copy] = {}
    for root, match, file in rooted(path, _pattern(folder), _MAX_MEMBER, _MAX_TOTAL):
        if root not in copies:
            name = "images" if not copies else f"images.{len(copies)}"
            copies[root] = _Copy(f"{path}: {root}{folder}", builder.grow(name, np.uint8))
        copies[root].take(match, file.read(), resolution)
    if not copies:
        raise ValueError(f"{path} has no images in {folder}")
    root, (labels, order) = _largest_whole(copies)
    for other, copy in copies.items():
        if other != root:
            builder.drop(copy.images)
    builder.rename(copies[root].images, "images")
    builder.put("labels", labels)
    builder.put("order", order)
    builder.notes |= {"images": len(order), "empty": len(copies[root].empty)}
    if len(copies) > 1:
        taken, left = root or "the top", [other or "the top" for other in copies if other != root]
        builder.notes |= {"root": taken, "other_roots": left}
        print(
            f"{path} holds {folder} below {' and '.join(map(cut, [taken, *left]))}: the first of "
            f"them, with {len(order)} whole images, is taken",
            file=sys.stderr,
        )


class _Copy:
    """One copy of a folder: its images as they come, and the tables that name them.

    where: archive and folder, for messages; images: grows by each image.
    """

    def __init__(self, where: str, images: Growing) -> None:
        self.where, self.images = where, images
        self.row_of: dict[Place, int] = {}
        self.empty: set[Place] = set()
        self._tables: dict[int, bytes] = {}

    def take(self, match: re.Match[str], content: bytes, resolution: int) -> None:
        """One member: an image or a table."""
        if match["table"]:
            number = int(match["table"])
            if number in self._tables:
                raise ValueError(f"{self.where}/metadata has two tables of number {number}")
            self._tables[number] = content
            return
        place = int(match["folder"]), match["file"]
        if place in self.row_of or place in self.empty:
            raise ValueError(f"{self.where} has two images imgs/{place[0]}/{place[1]}")
        if not content:
            self.empty.add(place)
            return
        if len(self.row_of) == _MOST_IMAGES:
            raise ValueError(f"{self.where}: more than {_MOST_IMAGES} images")
        where = f"{self.where}/imgs/{place[0]}/{place[1]}"
        self.images.append(pixels(content, resolution, where))
        self.row_of[place] = len(self.row_of)

    def labelled(self) -> tuple[np.ndarray, np.ndarray]:
        """labels (n,) uint8 of the images, and order (n,) int64, their rows in the tables' order.

        Raises ValueError for a line that names no image, or one that another line named, and for
        an image that no line names.
        """
        if not self._tables or not self.row_of:
            raise ValueError(f"{self.where} has no {'metadata' if self.row_of else 'images'}")
        labels = np.zeros(len(self.row_of), dtype=np.uint8)
        order: list[int] = []
        seen: set[Place] = set()
        for number, table in sorted(self._tables.items()):
            where = f"{self.where}/metadata/{number}.npy"
            for line, place, label in listed(table, where):
                if place in seen or not (place in self.row_of or place in self.empty):
                    name = f"imgs/{place[0]}/{cut(place[1])}"
                    what = "which was listed before" if place in seen else "which is not there"
                    raise ValueError(f"{where}, line {line}, lists {name}, {what}")
                seen.add(place)
                if place not in self.empty:
                    labels[self.row_of[place]] = label
                    order.append(self.row_of[place])
        left = [place for place in self.row_of if place not in seen]
        if left:
            first = "imgs/{}/{}".format(*left[0])
            raise ValueError(f"{self.where}: {len(left)} images have no label, such as {first}")
        return labels, np.array(order, dtype=np.int64)


def _largest_whole(copies: dict[str, _Copy]) -> tuple[str, tuple[np.ndarray, np.ndarray]]:
    """(root, what `labelled` gives) of the copy with the most images among those that are whole,
    of equals the least deep; ValueError, that of the copy with the most images, where none is."""
    error: ValueError | None = None
    for root in sorted(copies, key=lambda root: (-len(copies[root].row_of), root.count("/"), root)):
        try:
            return root, copies[root].labelled()
        except ValueError as wrong:
            error = error or wrong
    assert error is not None
    raise error


def _pattern(folder: str) -> str:
    """Of images and tables in `folder`."""
    return (
        rf"{re.escape(folder)}/(?:imgs/(?P<folder>[0-9]{{1,9}})/(?P<file>\w+\.png)"
        r"|metadata/(?P<table>[0-9]{1,9})\.npy)"
    )


def pixels(content: bytes, resolution: int, where: str) -> np.ndarray:
    """A PNG's grey values, (resolution^2,) uint8. Raises ValueError for a damaged one, or one of
    another size."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            size = image.size
            if size == (resolution, resolution):
                return np.asarray(image.convert("L")).reshape(-1)
    except _NO_PNG as error:
        raise ValueError(f"{where} is damaged: no readable PNG") from error
    raise ValueError(f"{where} has {size[0]} x {size[1]} pixels, not {resolution} each")


def listed(table: bytes, where: str) -> Iterator[tuple[int, Place, int]]:
    """(line from 1, image, label) of each line of a metadata file; ValueError names a line that is
    none. Empty lines are passed over."""
    text = table.removeprefix(BOM_UTF8).decode("utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        columns = line.split()
        if not columns:
            continue
        folder = _LISTED_FOLDER.fullmatch(columns[0])
        if len(columns) < 4 or columns[3] not in ("0", "1") or folder is None:
            raise ValueError(
                f"{where}, line {number}: expected folder, file, number and label (0 or 1), such "
                f"as imgs/0 sample_0.png 0 1; found {shown(line, 60)}"
            )
        yield number, (int(folder[1]), columns[1]), int(columns[3])
