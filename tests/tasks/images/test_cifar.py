"""scifar: the records' pixels, scaled as asked for; bad archives refused."""

from __future__ import annotations

import tarfile

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from harness import tasks
from harness.tasks.images.cifar import Cifar, gray
from harness.tasks.specs import ScifarSpec

from ..miniature import without_checksums, write_cifar, write_tar

SPEC = ScifarSpec(name="scifar")
MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)  # reference/paper.yaml


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_cifar(folder / "downloads", per_batch=20, test=30)
    return folder


@pytest.fixture
def data_dir(shared, monkeypatch):
    without_checksums(monkeypatch)
    return shared


def original(data_dir, name):
    """Pixels (n, 3, 32, 32) and labels (n,) of one file of the archive, by the format's rules."""
    with tarfile.open(data_dir / "downloads" / "cifar-10-binary.tar.gz") as archive:
        content = archive.extractfile(f"cifar-10-batches-bin/{name}").read()
    records = [content[k : k + 3073] for k in range(0, len(content), 3073)]
    pixels = [np.array(list(record[1:])).reshape(3, 32, 32) for record in records]
    return np.stack(pixels), np.array([record[0] for record in records])


def everything(task, split):
    x, y = task.examples(split, np.arange(task.sizes[split]))
    return x.numpy(), y.numpy()


def test_test_images_row_by_row_normalised_by_channel(data_dir):
    x, y = everything(Cifar(SPEC, data_dir), "test")
    pixels, labels = original(data_dir, "test_batch.bin")
    np.testing.assert_array_equal(y, labels)
    assert x.shape == (30, 1024, 3)
    for channel in range(3):
        expected = (pixels[:, channel] / 255 - MEAN[channel]) / DEVIATION[channel]
        np.testing.assert_allclose(
            x[..., channel].reshape(30, 32, 32), expected, rtol=1e-5, atol=1e-6
        )


def test_the_training_part_is_the_five_batches_in_the_order_of_their_numbers(data_dir):
    task = Cifar(SPEC.model_copy(update={"scaling": "unit"}), data_dir)
    assert task.sizes == {"train": 90, "validation": 10, "test": 30}
    parts = [original(data_dir, f"data_batch_{k}.bin") for k in range(1, 6)]
    pixels = np.concatenate([p for p, _ in parts])
    labels = np.concatenate([y for _, y in parts])
    order = np.random.default_rng(0).permutation(100)
    for split, rows in (("validation", order[:10]), ("train", order[10:])):
        x, y = everything(task, split)
        np.testing.assert_array_equal(y, labels[rows])
        seen = np.rint(x * 255).astype(int).transpose(0, 2, 1).reshape(-1, 3, 32, 32)
        np.testing.assert_array_equal(seen, pixels[rows])


def test_grey_is_pillows(data_dir):
    colours = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    colours[0, :3] = [[255, 255, 255], [0, 0, 0], [255, 0, 0]]
    expected = np.asarray(Image.fromarray(colours, "RGB").convert("L"))
    np.testing.assert_array_equal(gray(colours), expected)
    spec = ScifarSpec(name="scifar", grayscale=True, scaling="unit", time_channel=True)
    x, _ = everything(Cifar(spec, data_dir), "test")
    assert x.shape == (30, 1024, 2)
    pixels, _ = original(data_dir, "test_batch.bin")
    image = Image.fromarray(pixels[4].transpose(1, 2, 0).astype(np.uint8), "RGB").convert("L")
    np.testing.assert_allclose(x[4, :, 1], np.asarray(image).ravel() / 255, atol=1e-7)
    np.testing.assert_allclose(x[4, :, 0], np.arange(1024) / 1024, atol=1e-7)


def test_grey_has_no_channel_constants():
    with pytest.raises(ValidationError, match='grayscale needs scaling "unit"'):
        ScifarSpec(name="scifar", grayscale=True)


def write(folder, change):
    """A small archive of which `change` alters the files."""
    record = bytes([3]) + bytes(3072)
    names = [f"data_batch_{k}.bin" for k in range(1, 6)] + ["test_batch.bin"]
    files = {f"cifar-10-batches-bin/{name}": record for name in names}
    change(files)
    write_tar(folder / "downloads" / "cifar-10-binary.tar.gz", files)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: f.pop("cifar-10-batches-bin/data_batch_3.bin"), "lacks data_batch_3.bin: is it"),
        (
            lambda f: f.update({"cifar-10-batches-bin/test_batch.bin": bytes(3074)}),
            "test_batch.bin has 3074 bytes, not whole records of 3073 bytes",
        ),
        (lambda f: f.update({"cifar-10-batches-bin/test_batch.bin": b""}), "has 0 bytes, not"),
        (
            lambda f: f.update({"cifar-10-batches-bin/data_batch_5.bin": bytes([10]) * 3073}),
            "data_batch_5.bin has label 10, outside 0..9",
        ),
        (lambda f: f.update({"../evil": b""}), "leads out of the archive's folder"),
        (lambda f: (f.clear(), f.update({"cifar-10-batches-py/test_batch": b""})), "lacks data_b"),
    ],
)
def test_bad_archives_are_one_clear_line(tmp_path, monkeypatch, change, says):
    without_checksums(monkeypatch)
    write(tmp_path, change)
    with pytest.raises(ValueError, match=says) as caught:
        tasks.build(SPEC, tmp_path)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cifar").glob("*/index.json"))
