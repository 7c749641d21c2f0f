"""pathfinder, pathx: the release's images, labels and splits, from a miniature of its archive."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.tasks import build
from harness.tasks.specs import PathfinderSpec, PathxSpec

from ..miniature import without_checksums
from ..miniature_media import base, pathfinder_members, picture
from ..miniature_text import write_lra

LISTED = PathfinderSpec(name="pathfinder", difficulty="easy", order="listed")
FOLDER = "curv_baseline"
COUNT = 30


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write an archive of these images into tmp_path, the data folder."""
    without_checksums(monkeypatch)

    def written(images: dict[str, bytes]) -> Path:
        write_lra(tmp_path / "downloads", listops={}, aan={}, images=images)
        return tmp_path

    return written


@pytest.fixture
def members() -> dict[str, bytes]:
    return pathfinder_members(COUNT, 32, FOLDER)


def test_images_come_in_the_order_of_the_metadata(write, members):
    """The first image of folder 2 is the first of all, although folder 10 comes first in the
    archive; the empty file is passed over."""
    task = build(LISTED, write(members))
    assert task.sizes == {"train": 24, "validation": 3, "test": 3}
    number = 0
    for split, size in task.sizes.items():
        x, y = task.examples(split, np.arange(size))
        for k in range(size):
            expected = picture(number, 32).reshape(-1, 1) / np.float32(255)
            np.testing.assert_array_equal(x[k].numpy(), expected)
            assert int(y[k]) == number % 2
            number += 1
    assert number == COUNT
    summary = task.summary()
    assert summary["notes"] == {"images": COUNT, "empty": 1}
    assert "1 empty image files left out" in summary["provenance"]


def test_random_split_is_a_permutation_drawn_by_the_seed(write, members):
    data_dir = write(members)
    listed = build(LISTED, data_dir)
    pool = np.concatenate([listed.examples(s, np.arange(n))[0] for s, n in listed.sizes.items()])
    spec = LISTED.model_copy(update={"order": "random"})
    seen = []
    for seed in (0, 5):
        task = build(spec.model_copy(update={"split_seed": seed}), data_dir)
        images = np.concatenate([task.examples(s, np.arange(n))[0] for s, n in task.sizes.items()])
        order = np.random.default_rng(seed).permutation(COUNT)
        np.testing.assert_array_equal(images, pool[order])
        seen.append(task)
    assert seen[0].fingerprint != seen[1].fingerprint
    assert seen[0].pool_fingerprint == seen[1].pool_fingerprint


def test_signed_scaling_and_caps(write, members):
    data_dir = write(members)
    unit = build(LISTED, data_dir)
    signed = build(LISTED.model_copy(update={"scaling": "signed", "train": 4}), data_dir)
    assert signed.sizes["train"] == 4
    rows = np.arange(4)
    a, b = unit.examples("train", rows)[0], signed.examples("train", rows)[0]
    np.testing.assert_allclose(b, 2 * a - 1, atol=1e-6)
    assert float(b.min()) < -0.9
    assert unit.stored.folder == signed.stored.folder
    with pytest.raises(ValueError, match="24 train examples; asked for 25"):
        build(LISTED.model_copy(update={"train": 25}), data_dir)


def test_pathx_reads_128_pixels(write, members):
    images = members | pathfinder_members(20, 128, "curv_contour_length_14")
    task = build(PathxSpec(name="pathx"), write(images))
    assert task.sizes == {"train": 16, "validation": 2, "test": 2}
    assert tuple(task.examples("test", np.array([0]))[0].shape) == (1, 16_384, 1)
    path = task.sample(write(images) / "samples")
    assert path.name == "pathx.png"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("imgs/2/sample_3.png", b"\x89PNG\r\n\x1a\nnot", "imgs/2/sample_3.png is damaged"),
        (
            "imgs/2/sample_3.png",
            None,
            "2.npy, line 4, lists imgs/2/sample_3.png, which is not",
        ),
        ("imgs/2/sample_99.png", "twin", "1 images have no label, such as imgs/2/sample_99.png"),
        ("imgs/10/sample_0.png", "large", "sample_0.png has 16 x 16 pixels, not 32 each"),
        ("metadata/10.npy", b"imgs/10 sample_0.png 0 2 1.8\n", "10.npy, line 1: expected folder"),
        ("metadata/10.npy", b"\x93NUMPY\x01\x00", "10.npy, line 1: expected folder"),
    ],
)
def test_a_bad_member_is_named_in_one_line(write, members, name, content, message):
    from ..miniature_media import png

    members = dict(members)
    whole = f"{base(32, FOLDER)}/{name}"
    made = {"twin": png(picture(0, 32)), "large": png(picture(0, 16))}
    if content is None:
        del members[whole]
    else:
        members[whole] = made.get(content, content) if isinstance(content, str) else content
    data_dir = write(members)
    with pytest.raises(ValueError, match=message) as caught:
        build(LISTED, data_dir)
    assert "\n" not in str(caught.value)
    assert not [path for path in (data_dir / "pathfinder").iterdir() if path.is_dir()]


def test_a_png_that_is_cut_off_is_no_image(write, members):
    whole = f"{base(32, FOLDER)}/imgs/2/sample_3.png"
    with pytest.raises(ValueError, match=r"imgs/2/sample_3\.png is damaged"):
        build(LISTED, write(members | {whole: members[whole][:-300]}))


def test_an_archive_without_these_images_says_so(write, members):
    data_dir = write(members)
    with pytest.raises(ValueError, match="no images in pathfinder32/curv_contour_length_9"):
        build(LISTED.model_copy(update={"difficulty": "intermediate"}), data_dir)
