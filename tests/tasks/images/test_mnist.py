"""smnist, psmnist, fashion: the files' pixels, in the order asked for; bad files refused."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
from pydantic import ValidationError

from harness import tasks
from harness.tasks.images.mnist import Mnist
from harness.tasks.specs import FashionSpec, PsmnistSpec, SmnistSpec

from ..miniature import idx, without_checksums, write_mnist

SPEC = SmnistSpec(name="smnist")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """DATA_DIR/downloads with the four files, 90 images to train and 30 to test."""
    without_checksums(monkeypatch)
    write_mnist(tmp_path / "downloads", train=90, test=30)
    return tmp_path / "downloads"


def original(folder, part):
    """Pixels (n, 784) and labels (n,) as `gunzip` and the format's description give them."""
    pixels = gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    count = int.from_bytes(pixels[4:8], "big")
    return (
        np.array(list(pixels[16:]), dtype=np.float32).reshape(count, 784),
        np.array(list(labels[8:])),
    )


def everything(task, split):
    x, y = task.examples(split, np.arange(task.sizes[split]))
    return x.numpy(), y.numpy()


def test_the_test_set_is_the_files_in_their_order(folder):
    x, y = everything(Mnist(SPEC, folder.parent), "test")
    pixels, labels = original(folder, "t10k")
    np.testing.assert_array_equal(x[..., 0], pixels / np.float32(255))
    np.testing.assert_array_equal(y, labels)
    assert x.shape == (30, 784, 1)


def test_training_and_validation_are_the_training_files(folder):
    task = Mnist(SPEC.model_copy(update={"validation_share": 0.2}), folder.parent)
    assert task.sizes == {"train": 72, "validation": 18, "test": 30}
    pixels, labels = original(folder, "train")
    order = np.random.default_rng(0).permutation(90)
    for split, rows in (("validation", order[:18]), ("train", order[18:])):
        x, y = everything(task, split)
        np.testing.assert_array_equal(x[..., 0], pixels[rows] / np.float32(255))
        np.testing.assert_array_equal(y, labels[rows])


def test_the_permutation_is_fixed_and_the_same_for_all(folder):
    plain = Mnist(SPEC, folder.parent)
    task = Mnist(PsmnistSpec(name="psmnist", permutation_seed=3), folder.parent)
    order = np.random.default_rng(3).permutation(784)
    assert sorted(order) == list(range(784))
    for split in ("train", "test"):
        straight, mixed = everything(plain, split)[0], everything(task, split)[0]
        for k in range(784):
            np.testing.assert_array_equal(mixed[:, k], straight[:, order[k]])
    assert len(list((folder.parent / "mnist").glob("*/index.json"))) == 1


def test_fashion_reads_its_own_four_files(folder):
    write_mnist(folder, train=60, test=20, seed=5, prefix="fashion-")
    task = Mnist(FashionSpec(name="fashion"), folder.parent)
    assert task.sizes == {"train": 54, "validation": 6, "test": 20}
    x, y = everything(task, "test")
    pixels, labels = original(folder, "fashion-t10k")
    np.testing.assert_array_equal(x[..., 0], pixels / np.float32(255))
    np.testing.assert_array_equal(y, labels)
    assert "Fashion-MNIST" in task.provenance
    digits = Mnist(SPEC, folder.parent)
    assert task.fingerprint != digits.fingerprint
    assert "handwritten" in digits.provenance


def test_the_time_channel_comes_first(folder):
    task = Mnist(SPEC.model_copy(update={"time_channel": True}), folder.parent)
    x, _ = everything(task, "test")
    assert x.shape == (30, 784, 2)
    np.testing.assert_allclose(x[7, :, 0], [k / 784 for k in range(784)], rtol=1e-7)
    np.testing.assert_array_equal(x[..., 1:], everything(Mnist(SPEC, folder.parent), "test")[0])


def test_caps_take_the_first_and_no_more_than_there_are(folder):
    whole = Mnist(SPEC, folder.parent)
    capped = Mnist(SPEC.model_copy(update={"train": 5, "test": 7}), folder.parent)
    assert capped.sizes == {"train": 5, "validation": 9, "test": 7}
    for split, size in capped.sizes.items():
        np.testing.assert_array_equal(
            everything(capped, split)[0], everything(whole, split)[0][:size]
        )
    with pytest.raises(ValueError, match="smnist has 30 test examples; asked for 31"):
        Mnist(SPEC.model_copy(update={"test": 31}), folder.parent)


def test_fingerprints_follow_what_the_model_sees(folder):
    def of(spec, **fields):
        return Mnist(spec.model_copy(update=fields), folder.parent)

    base, mixed = of(SPEC), PsmnistSpec(name="psmnist")
    others = [
        of(SPEC, split_seed=1), of(SPEC, validation_share=0.3), of(SPEC, time_channel=True),
        of(SPEC, test=3), of(mixed), of(mixed, permutation_seed=1),
    ]  # fmt: skip
    assert len({task.fingerprint for task in [base, *others]}) == 7
    same = {task.pool_fingerprint == base.pool_fingerprint for task in others[:2]}
    assert same == {True}
    assert len({task.pool_fingerprint for task in (base, *others[2:3], *others[4:])}) == 4


def test_the_data_are_mapped_and_only_the_rows_asked_for_are_copied(folder):
    task = Mnist(SPEC, folder.parent)
    assert isinstance(task.stored.arrays["images"], np.memmap)
    x, _ = task.examples("train", np.array([2, 0]))
    assert x.untyped_storage().nbytes() == 2 * 784 * 4


def test_summary_names_archives_and_verify_finds_damage(folder):
    task = Mnist(SPEC, folder.parent)
    task.verify()
    summary = task.summary()
    assert set(summary["archives"]) == set(SmnistSpec.archives)
    assert summary["notes"] == {"train": 90, "test": 30}
    path = task.stored.folder / "labels.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"labels\.npy is damaged"):
        Mnist(SPEC, folder.parent).verify()


def test_verify_looks_at_the_archives_that_are_still_there(folder):
    task = Mnist(SPEC, folder.parent)
    archive = folder / "t10k-labels-idx1-ubyte.gz"
    archive.write_bytes((folder / "train-labels-idx1-ubyte.gz").read_bytes())
    with pytest.raises(ValueError, match=r"t10k-labels-idx1-ubyte\.gz is not what it was"):
        task.verify()
    for path in folder.glob("*.gz"):
        path.unlink()
    task.verify()


PIXELS, LABELS = np.zeros((10, 28, 28), np.uint8), np.zeros(10, np.uint8)


@pytest.mark.parametrize(
    ("kind", "content", "says"),
    [
        ("images-idx3", b"", "does not begin with idx magic 00000803 but with nothing"),
        ("images-idx3", idx(LABELS) * 9, "idx magic 00000803 but with 00000801"),
        ("images-idx3", idx(PIXELS[:, :14]), r"an array of \(10, 14, 28\)"),
        ("images-idx3", idx(PIXELS)[:-1], "announces 10 items of 784 bytes and holds 7839"),
        ("images-idx3", idx(PIXELS) + b"x", "announces 10 items of 784 bytes and holds 7841"),
        ("images-idx3", idx(PIXELS), "has 10 images, train-labels-idx1-ubyte.gz 90 labels"),
        ("images-idx3", idx(PIXELS)[:4] + struct.pack(">III", 0, 28, 28), r"array of \(0, 28, 28"),
        ("labels-idx1", idx(LABELS)[:-1], "announces 10 items of 1 bytes and holds 9"),
        ("labels-idx1", idx(np.full(90, 10, np.uint8)), "has label 10, outside 0..9"),
    ],
)
def test_bad_files_are_one_clear_line(folder, kind, content, says):
    path = folder / f"train-{kind}-ubyte.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(ValueError, match=says) as caught:
        tasks.build(SPEC, folder.parent)
    assert "\n" not in str(caught.value)
    assert str(folder / "train-") in str(caught.value)
    assert not list((folder.parent / "mnist").glob("*/index.json"))


def test_a_cut_off_file_is_one_clear_line(folder):
    path = folder / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte\.gz is damaged, cut off"):
        tasks.build(SPEC, folder.parent)


def test_specs_refuse_shares_that_leave_nothing():
    for share in (0.0, 1.0):
        with pytest.raises(ValidationError, match="validation_share"):
            SmnistSpec(name="smnist", validation_share=share)
