"""text8, enwik8, wikitext103: windows against the texts that were written, splits, errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import tasks
from harness.tasks.specs import Enwik8Spec, Text8Spec, Wikitext103Spec

from ..miniature import without_checksums
from ..miniature_text import (
    enwik8,
    text8,
    wikitext103,
    write_enwik8,
    write_text8,
    write_wikitext103,
    write_zip,
)

ALPHABET = " abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(autouse=True)
def _unchecked(monkeypatch):
    without_checksums(monkeypatch)


def built_from(spec: tasks.TaskSpecBase, data_dir: Path) -> Any:
    return tasks.build(spec, data_dir)


def all_windows(task: Any, split: str) -> list[bytes]:
    """Every window of a split as bytes: x and the last of y, after checking that y follows x."""
    x, y = task.examples(split, np.arange(task.sizes[split]))
    assert (x[:, 1:] == y[:, :-1]).all()
    whole = np.concatenate([x.numpy(), y.numpy()[:, -1:]], axis=1)
    return [bytes(row.tolist()) for row in whole]


def cut(text: bytes, width: int) -> list[bytes]:
    return [text[k : k + width] for k in range(0, len(text) - width + 1, width)]


def test_enwik8_is_every_window_once_in_90_5_5(tmp_path):
    write_enwik8(tmp_path / "downloads", 6001)
    task = built_from(Enwik8Spec(name="enwik8", window=32), tmp_path)
    text = enwik8(6001)
    parts = {"train": text[:5400], "validation": text[5400:5700], "test": text[5700:]}
    for split, part in parts.items():
        found = all_windows(task, split)
        assert sorted(found) == sorted(cut(part, 33))
        assert len(found) < 3 or found != cut(part, 33)  # in a drawn order
    assert "5400 / 300 / 301 bytes" in task.provenance


def test_text8_has_27_symbols(tmp_path):
    write_text8(tmp_path / "downloads")
    task = built_from(Text8Spec(name="text8", window=20), tmp_path)
    text = text8().decode()
    expected = ["".join(ALPHABET[t] for t in window) for window in all_windows(task, "train")]
    assert sorted(expected) == sorted(text[:5400][k : k + 21] for k in range(0, 5400 - 20, 21))
    assert " anarchism" in max(expected, key=lambda window: window.startswith(" anarchism"))
    assert task.info.vocabulary == task.info.outputs == 27
    sample = task.sample(tmp_path / "sample").read_text(encoding="utf-8")
    x, _ = task.examples("train", np.array([0]))
    assert "".join(ALPHABET[t] for t in x[0].tolist()) in sample


@pytest.mark.parametrize("edition", ["raw", "tokens"])
def test_wikitext_keeps_its_splits(tmp_path, edition):
    write_wikitext103(tmp_path / "downloads")
    task = built_from(Wikitext103Spec(name="wikitext103", window=50, edition=edition), tmp_path)
    texts = wikitext103(edition)
    for split, part in (("train", "train"), ("validation", "valid"), ("test", "test")):
        expected = cut(texts[f"wiki.{part}.{edition}"], 51)
        assert sorted(all_windows(task, split)) == sorted(expected)
    name = "wikitext-103-raw-v1.zip" if edition == "raw" else "wikitext-103-v1.zip"
    assert list(task.stored.archives) == [name]


def test_a_smaller_cap_is_a_prefix_and_the_seed_draws(tmp_path):
    write_enwik8(tmp_path / "downloads")
    whole = built_from(Enwik8Spec(name="enwik8", window=32), tmp_path)
    few = built_from(Enwik8Spec(name="enwik8", window=32, train=20), tmp_path)
    other = built_from(Enwik8Spec(name="enwik8", window=32, train=20, split_seed=1), tmp_path)
    assert few.sizes == whole.sizes | {"train": 20}
    assert all_windows(few, "train") == all_windows(whole, "train")[:20]
    assert all_windows(other, "train") != all_windows(few, "train")
    assert len({task.fingerprint for task in (whole, few, other)}) == 3
    assert len({task.stored.folder for task in (whole, few, other)}) == 1


def test_windows_are_views_of_the_map(tmp_path):
    """Whatever the window, the text is on disk once and never copied into memory."""
    write_enwik8(tmp_path / "downloads")
    for window in (16, 64):
        task = built_from(Enwik8Spec(name="enwik8", window=window), tmp_path)
        for split, stream in task.stored.arrays.items():
            assert isinstance(stream, np.memmap)
            assert np.shares_memory(task._windows[split], stream)
    assert len(list((tmp_path / "enwik8").glob("*/index.json"))) == 1


def test_balance_is_the_entropy_of_single_bytes(tmp_path):
    """Half a, a quarter b, a quarter c: 1.5 bits."""
    write_zip(tmp_path / "downloads" / "enwik8.zip", {"enwik8": b"aabc" * 400})
    task = built_from(Enwik8Spec(name="enwik8", window=15), tmp_path)
    balance = task.summary()["balance"]["train"]
    assert balance["entropy_of_single_bytes"] == pytest.approx(1.5, abs=1e-12)
    assert balance["distinct_bytes"] == 3


@pytest.mark.parametrize(
    ("spec", "files", "message"),
    [
        (Text8Spec(name="text8"), {"text8": b"abc D" * 900}, "byte 68 at 4 is neither a space nor"),
        (Text8Spec(name="text8"), {"text9": b"abc d"}, r"text8\.zip: text8 is missing"),
        (Text8Spec(name="text8"), {"text8": b""}, r"text8\.zip: text8 is empty"),
        (Text8Spec(name="text8"), {"text8": b"ab"}, "too short to be split"),
        (
            Text8Spec(name="text8", window=30),
            {"text8": b"abc d" * 100},
            r"text8: the validation text of 25 bytes holds no window of 30 \+ 1",
        ),
        (
            Wikitext103Spec(name="wikitext103"),
            {"wikitext-103-raw/wiki.train.raw": b"x" * 99},
            r"wikitext-103-raw-v1\.zip: wiki\.valid\.raw is missing",
        ),
    ],
)
def test_wrong_archives_are_refused(tmp_path, spec, files, message):
    write_zip(tmp_path / "downloads" / spec.archives[0], files)
    with pytest.raises(ValueError, match=message) as told:
        tasks.build(spec, tmp_path)
    assert "\n" not in str(told.value)


def test_more_windows_than_there_are_is_refused(tmp_path):
    write_enwik8(tmp_path / "downloads")
    with pytest.raises(ValueError, match=r"enwik8 has 163 train examples; asked for 164"):
        tasks.build(Enwik8Spec(name="enwik8", window=32, train=164), tmp_path)
