"""`arrays`: what is read from .npz files, how it is split and scaled."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from harness.suite import TaskSpec
from harness.tasks.base import SPLITS

from .conftest import sequences


def everything(task, split):
    return task.examples(split, np.arange(task.sizes[split]))


def test_classes_of_an_npz(here, made):
    x, y = sequences()
    np.savez("mine.npz", x=x, y=np.array(["low", "mid", "high"])[y])
    task = made(path="mine.npz", normalise_x=False)
    info = task.info
    assert (info.kind, info.outputs, info.length, info.inputs) == ("classification", 3, 12, 2)
    assert task.sizes == {"train": 48, "validation": 6, "test": 6}
    assert task.metric == "accuracy"
    balance = task.summary()["balance"]
    assert balance["train"]["names"] == ["high", "low", "mid"]
    assert [balance[split]["classes"] for split in SPLITS] == [[16] * 3, [2] * 3, [2] * 3]
    rows = {row.tobytes(): label for row, label in zip(x, y, strict=True)}
    seen = set()
    for split in SPLITS:
        found, labels = everything(task, split)
        assert (found.dtype, labels.dtype) == (torch.float32, torch.int64)
        for row, label in zip(found.numpy(), labels.tolist(), strict=True):
            assert [1, 2, 0][rows[row.tobytes()]] == label  # codes are in the order of the names
            seen.add(row.tobytes())
    assert seen == set(rows)


def test_x_is_scaled_by_the_training_split_alone(made):
    x, y = sequences()
    np.savez("mine.npz", x=x, y=y)
    task = made(path="mine.npz")
    train = everything(task, "train")[0].double()
    torch.testing.assert_close(train.mean((0, 1)), torch.zeros(2).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        train.std((0, 1), correction=0), torch.ones(2).double(), atol=1e-5, rtol=0
    )
    plain = everything(made(path="mine.npz", normalise_x=False), "train")[0].numpy()
    told = task.summary()["scaled"]["x"]
    np.testing.assert_allclose(told["mean"], plain.mean((0, 1), dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(told["deviation"], plain.std((0, 1), dtype=np.float64), rtol=1e-6)
    test = everything(made(path="mine.npz", normalise_x=False), "test")[0].double().numpy()
    np.testing.assert_allclose(
        everything(task, "test")[0], (test - told["mean"]) / told["deviation"], atol=1e-4
    )


def test_a_small_signal_on_a_large_mean_survives(made):
    """float64 data are scaled before they become float32, whose steps at 1e9 are 64."""
    x, y = sequences()
    np.savez("mine.npz", x=x.astype(np.float64) + 1e9, y=y)
    np.savez("same.npz", x=x.astype(np.float64), y=y)
    torch.testing.assert_close(
        everything(made(path="mine.npz"), "test")[0],
        everything(made(path="same.npz"), "test")[0],
        atol=1e-5,
        rtol=0,
    )


def test_a_constant_channel_becomes_zero(made):
    x, y = sequences()
    x[..., 1] = 0.1
    np.savez("mine.npz", x=x, y=y)
    found, _ = everything(made(path="mine.npz"), "train")
    assert not found[..., 1].any()


def test_lengths_end_sequences(made):
    x, y = sequences()
    lengths = np.arange(60) % 12 + 1
    for row, length in enumerate(lengths):
        x[row, length:] = np.nan  # what lies beyond is nobody's
    np.savez("mine.npz", x=x, y=y, lengths=lengths)
    task = made(path="mine.npz")
    found, _ = everything(task, "train")
    own = lengths[task.pool_rows("train", np.arange(task.sizes["train"]))]
    for row, length in zip(found, own, strict=True):
        assert not row[length:].any()
    counted = np.concatenate(
        [row[:length].double().numpy() for row, length in zip(found, own, strict=True)]
    )
    np.testing.assert_allclose(counted.mean(0), 0.0, atol=1e-5)
    np.testing.assert_allclose(counted.std(0), 1.0, atol=1e-5)
    assert task.summary()["notes"]["padded"] == 55


def test_values_of_sequences_and_steps(made):
    x, _ = sequences()
    y = np.stack([x.mean((1, 2)), x.max((1, 2)), x.min((1, 2))], axis=-1)
    np.savez("mine.npz", x=x, y=y)
    task = made(path="mine.npz", predict="value")
    assert (task.info.kind, task.info.outputs, task.info.pooled) == ("regression", 3, True)
    assert task.metric == "root_mean_squared_error"
    found = everything(task, "train")[1]
    assert (found.shape, found.dtype) == ((48, 3), torch.float32)
    np.testing.assert_allclose(found.mean(0), 0.0, atol=1e-5)
    np.testing.assert_allclose(found.std(0, correction=0), 1.0, atol=1e-5)
    np.savez("steps.npz", x=x, y=x.sum(-1))
    task = made(path="steps.npz", predict="value", per="step", error="mean_squared")
    assert (task.info.kind, task.info.outputs, task.info.pooled) == ("regression", 1, False)
    assert task.metric == "mean_squared_error"
    assert everything(task, "test")[1].shape == (6, 12, 1)
    raw = made(path="steps.npz", predict="value", per="step", normalise_x=False, normalise_y=False)
    inputs, targets = everything(raw, "test")
    torch.testing.assert_close(inputs.sum(-1), targets[..., 0])


def test_classes_of_steps(made):
    x, _ = sequences()
    y = (x[..., 0] > x[..., 0].mean()).astype(np.int8)
    np.savez("mine.npz", x=x, y=y)
    task = made(path="mine.npz", per="step")
    assert (task.info.kind, task.info.inputs, task.info.outputs) == ("next_token", 2, 2)
    assert task.metric == "accuracy"
    labels = everything(task, "train")[1]
    assert (labels.shape, labels.dtype) == ((48, 12), torch.int64)
    assert sum(task.summary()["balance"]["train"]["classes"]) == 48 * 12


def test_the_next_step_of_numbers_and_tokens(made):
    x, _ = sequences()
    np.savez("mine.npz", x=x)
    task = made(path="mine.npz", predict="next_step")
    assert (task.info.kind, task.info.length, task.info.outputs) == ("regression", 11, 2)
    inputs, targets = everything(task, "train")
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    tokens = np.random.default_rng(0).integers(0, 7, (60, 12), dtype=np.int16)
    tokens[0, 0] = 6
    np.savez("tokens.npz", x=tokens)
    task = made(path="tokens.npz", predict="next_step")
    assert (task.info.kind, task.info.length, task.info.outputs) == ("next_token", 11, 7)
    assert (task.info.vocabulary, task.metric) == (7, "bits_per_token")
    inputs, targets = everything(task, "train")
    assert inputs.dtype == torch.int64
    assert torch.equal(inputs[:, 1:], targets[:, :-1])


def test_splits_that_the_file_gives(made):
    x, y = sequences()
    split = np.array(["train"] * 40 + ["val"] * 10 + ["test"] * 10)
    np.savez("mine.npz", x=x, y=y, split=split)
    task = made(path="mine.npz", normalise_x=False)
    for name, rows in zip(SPLITS, (slice(40), slice(40, 50), slice(50, 60)), strict=True):
        np.testing.assert_array_equal(everything(task, name)[0], x[rows])
    np.savez("mine.npz", x=x, y=y, split=np.where(split == "val", "train", split))
    task = made(path="mine.npz", normalise_x=False)
    assert task.sizes == {"train": 44, "validation": 6, "test": 10}


def test_a_folder_of_files_is_one_pool_and_names_may_be_splits(here, made):
    x, y = sequences()
    (here / "pool").mkdir()
    (here / "split").mkdir()
    for number, name in enumerate(("test", "train", "valid")):
        rows = slice(20 * number, 20 * number + 20)
        np.savez(here / "pool" / f"{number}.npz", x=x[rows], y=y[rows])
        np.savez(here / "split" / f"{name}.npz", x=x[rows], y=y[rows])
    (here / "pool" / "README.md").write_text("not data")
    task = made(path="pool", normalise_x=False)
    assert sum(task.sizes.values()) == 60
    task = made(path="split", normalise_x=False)
    np.testing.assert_array_equal(everything(task, "test")[0], x[:20])
    np.testing.assert_array_equal(everything(task, "train")[0], x[20:40])
    np.testing.assert_array_equal(everything(task, "validation")[0], x[40:])


def test_windows_and_order(made):
    x, _ = sequences(count=1, steps=1000)
    np.savez("long.npz", x=x, y=x[..., :1])
    task = made(
        path="long.npz", predict="value", per="step", window=30, order="listed",
        normalise_x=False, normalise_y=False,
    )  # fmt: skip
    assert task.sizes == {"train": 27, "validation": 3, "test": 3}  # 33 windows, 10 steps dropped
    found = torch.cat([everything(task, split)[0] for split in SPLITS]).reshape(-1, 2)
    np.testing.assert_array_equal(found, x[0, :990])


def test_the_split_follows_its_seed_and_caps_are_prefixes(made):
    x, y = sequences()
    np.savez("mine.npz", x=x, y=y)
    one, two = made(path="mine.npz"), made(path="mine.npz", split_seed=1)
    assert one.fingerprint != two.fingerprint
    few = made(path="mine.npz", train=10, normalise_x=False)
    whole = made(path="mine.npz", normalise_x=False)
    assert torch.equal(everything(few, "train")[0], everything(whole, "train")[0][:10])
    with pytest.raises(ValueError, match="arrays has 48 train examples; asked for 49"):
        made(path="mine.npz", train=49)


def test_the_cache_is_mapped_shared_and_verified(here, made):
    x, y = sequences()
    np.savez("mine.npz", x=x, y=y)
    task = made(path="mine.npz")
    assert isinstance(task._x, np.memmap)
    other = made(path="mine.npz", split_seed=3, normalise_x=False)
    assert other.stored.folder == task.stored.folder
    task.verify()
    path = task.stored.folder / "x.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    with pytest.raises(ValueError, match=r"x\.npy is damaged"):
        made(path="mine.npz", split_seed=4).verify()


def test_the_sample_and_the_summary(here, made):
    x, y = sequences()
    np.savez("mine.npz", x=x, y=y)
    task = made(path="mine.npz")
    assert task.sample(here / "samples").read_bytes().startswith(b"\x89PNG")
    summary = json.loads(json.dumps(task.summary()))
    assert summary["notes"]["path"] == str(here / "mine.npz")
    assert TaskSpec(name="arrays", path="mine.npz").data_bytes == 8 * 60
