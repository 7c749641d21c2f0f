"""`text_file`: bytes and characters of any files, split by position or by file."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from harness import tasks
from harness.cli.app import execute
from harness.suite import TaskSpec
from harness.tasks.base import SPLITS

from .test_arrays import everything
from .test_identity import id_of
from .test_trained import trained

WORDS = "the quick brown fox, für alle: 一二三 "


def joined(task, split):
    """All windows of a split in their own order, as one vector without the last targets."""
    x, _ = everything(task, split)
    order = np.argsort(task.pool_rows(split, np.arange(task.sizes[split])))
    return x[order]


def test_bytes_by_position(here, made):
    content = np.random.default_rng(0).integers(0, 256, 10_000, dtype=np.uint8)
    content.tofile("any.bin")
    task = made("text_file", path="any.bin", window=9)
    assert (task.info.kind, task.info.outputs, task.info.length) == ("next_token", 256, 9)
    assert task.metric == "bits_per_byte"
    assert task.sizes == {"train": 800, "validation": 100, "test": 100}
    for number, split in enumerate(SPLITS):
        begin, end = ((0, 8000), (8000, 9000), (9000, 10_000))[number]
        rows = content[begin:end].reshape(-1, 10)
        np.testing.assert_array_equal(joined(task, split), rows[:, :-1])
    x, y = everything(task, "train")
    assert torch.equal(x[:, 1:], y[:, :-1])


def test_characters(here, made):
    text = WORDS * 60
    (here / "mine.txt").write_text("\ufeff" + text, encoding="utf-8")
    task = made("text_file", path="mine.txt", by="character", window=len(WORDS) - 1)
    symbols = sorted(set(WORDS))
    assert task.info.vocabulary == task.info.outputs == len(symbols)
    assert task.metric == "bits_per_character"
    x, y = task.examples("test", np.array([0]))
    assert "".join(symbols[t] for t in x[0].tolist()) == WORDS[:-1]
    assert symbols[int(y[0, -1])] == " "
    shown = task.sample(here / "samples").read_text(encoding="utf-8")
    assert "für alle: 一二三" in shown
    assert f"({len(WORDS) - 1} characters)" in shown
    assert task.summary()["balance"]["train"]["distinct_characters"] == len(symbols)


def test_by_file_drawn_and_named(here, made):
    (here / "drawn" / "deep").mkdir(parents=True)
    for number in range(10):
        folder = here / "drawn" / ("deep" if number % 2 else ".")
        (folder / f"{number}.txt").write_bytes(bytes([65 + number]) * 100)
    (here / "drawn" / ".hidden").write_bytes(b"x" * 1000)
    task = made("text_file", path="drawn", split_by="file", window=9)
    assert task.sizes == {"train": 80, "validation": 10, "test": 10}
    kinds = [set(np.unique(everything(task, split)[0])) for split in SPLITS]
    assert [len(kind) for kind in kinds] == [8, 1, 1]
    assert set.union(*kinds) == set(range(65, 75))
    (here / "named").mkdir()
    for name, letter in (("train", "a"), ("valid", "b"), ("test", "c")):
        (here / "named" / f"{name}.txt").write_text(letter * 100)
    task = made("text_file", path="named", split_by="file", window=9)
    assert [everything(task, split)[0].unique().item() for split in SPLITS] == [97, 98, 99]


def test_identity_is_content(here):
    (here / "a").mkdir()
    for name in ("x", "y"):
        (here / "a" / f"{name}.txt").write_text(name * 3000)
    first = id_of("a", name="text_file", window=16)
    shutil.copytree("a", "b")
    assert id_of("b", name="text_file", window=16) == first
    (here / "b" / "x.txt").rename(here / "b" / "z.txt")  # names are the order of the text
    assert id_of("b", name="text_file", window=16) != first
    spec = TaskSpec(name="text_file", path="a", window=16)
    (here / "a" / "x.txt").write_text("z" * 3000)
    with pytest.raises(ValueError, match="a holds other data than the trial was planned with"):
        tasks.build(spec)


def test_trained_by_characters(here, capsys):
    (here / "mine.txt").write_text(WORDS * 200, encoding="utf-8")
    task = {"name": "text_file", "path": "mine.txt", "by": "character", "window": 32}
    record = trained(capsys, task)
    assert record["metric"] == "bits_per_character"
    assert record["test_metric"] < np.log2(len(set(WORDS)))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"path": "nosuch"}, "nosuch does not exist"),
        ({"path": "empty.txt"}, "the train text of 0 bytes holds no window of 256 + 1"),
        ({"path": "short.txt"}, "the train text of 240 bytes holds no window of 256 + 1"),
        ({"path": "no.bin", "by": "character"}, "no.bin is not UTF-8 text: byte 0 is 0xff"),
        ({"path": "torn", "by": "character"}, "b.txt (file 2 of 2) is not UTF-8 text: byte 1"),
        ({"path": "one.txt", "by": "character"}, "one.txt holds 1 character only"),
        ({"path": "torn", "split_by": "file"}, "2 files cannot be split by file"),
        ({"path": "folder"}, "folder holds no file"),
        ({"path": "short.txt", "window": "1"}, "window: Input should be greater than or equal"),
        ({"path": "short.txt", "by": "word"}, "by: Input should be 'byte' or 'character'"),
    ],
)
def test_what_is_refused(here, capsys, fields, says):
    (here / "empty.txt").write_bytes(b"")
    (here / "short.txt").write_bytes(b"ab" * 150)
    (here / "no.bin").write_bytes(b"\xff" * 3000)
    (here / "one.txt").write_bytes(b"a" * 30_000)
    (here / "torn").mkdir()
    (here / "folder").mkdir()
    (here / "torn" / "a.txt").write_bytes(b"ab" * 3000)
    (here / "torn" / "b.txt").write_bytes(b"a\xe4b" * 3000)
    arguments = [part for key, value in fields.items() for part in ("--set", f"{key}={value}")]
    assert execute(["data", "check", "text_file", *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert says in err
    assert not (here / "data").exists()
