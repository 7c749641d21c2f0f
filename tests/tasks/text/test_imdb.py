"""imdb: tokens worked out by hand, the vocabulary's rules, splits, and archives that are wrong."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from harness.tasks import build
from harness.tasks.specs import ImdbSpec
from harness.tasks.text.imdb import Imdb

from ..miniature import without_checksums, write_tar
from ..miniature_text import SPECS, imdb_reviews, write_imdb

# Counts: a 5, b 4, é 4, c 1, ☃ 1; so a before b before é (equal counts by code point).
BY_HAND = {
    "aclImdb/train/neg/0_1.txt": "aab",
    "aclImdb/train/pos/0_9.txt": "ababé",
    "aclImdb/train/neg/1_2.txt": "ééabé",
    "aclImdb/train/pos/1_10.txt": "c☃",
    "aclImdb/test/neg/0_3.txt": "zab",
    "aclImdb/test/pos/0_7.txt": "",
}


def imdb(data_dir: Path, reviews: dict[str, str] | None = None, **options: object) -> Imdb:
    if reviews is not None:
        files = {name: text.encode() for name, text in reviews.items()}
        write_tar(data_dir / "downloads" / "aclImdb_v1.tar.gz", files)
    task = build(ImdbSpec.model_validate({"name": "imdb", **options}), data_dir)
    assert isinstance(task, Imdb)
    return task


@pytest.fixture(autouse=True)
def _unchecked(monkeypatch):
    without_checksums(monkeypatch)


def test_tokens_by_hand(tmp_path):
    """0 padding, 1 unknown, 2 end; then a 3, b 4, é 5. The validation set is the test set, so the
    training reviews come in the order of the archive's numbers, negative first."""
    task = imdb(tmp_path, BY_HAND, length=8, min_frequency=2, validation_from="test")
    x, y = task.examples("train", np.arange(4))
    assert x.tolist() == [
        [3, 3, 4, 2, 0, 0, 0, 0],
        [3, 4, 3, 4, 5, 2, 0, 0],
        [5, 5, 3, 4, 5, 2, 0, 0],
        [1, 1, 2, 0, 0, 0, 0, 0],
    ]
    assert y.tolist() == [0, 1, 0, 1]
    x, y = task.examples("test", np.arange(2))
    assert x.tolist() == [[1, 3, 4, 2, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0, 0, 0]]
    assert y.tolist() == [0, 1]
    assert "VALIDATED ON THE TEST SET" in task.provenance
    same, _ = task.examples("validation", np.arange(2))
    assert (same == x).all()


def test_the_vocabulary_counts_what_the_model_sees(tmp_path):
    """Cut to 2 characters: a 3 (aa, ab), é 2 (éé), then b, c and ☃ once each."""
    task = imdb(tmp_path, BY_HAND, length=3, min_frequency=1, validation_from="test")
    assert task.vocabulary.symbols == ("<pad>", "<unk>", "<eos>", "a", "é", "b", "c", "☃")
    assert task.examples("train", np.arange(4))[0].tolist() == [
        [3, 3, 2],
        [3, 5, 2],
        [4, 4, 2],
        [6, 7, 2],
    ]


def test_the_rarest_characters_give_way_when_tokens_are_few(tmp_path):
    reviews = {f"aclImdb/{p}/{c}/0_1.txt": "aaaabbbccd"[:9] + "efgh" for p in ("train", "test")
               for c in ("neg", "pos")}  # fmt: skip
    task = imdb(tmp_path, reviews, length=64, min_frequency=1, vocabulary=8, validation_from="test")
    assert task.vocabulary.symbols[3:] == ("a", "b", "c", "e", "f")
    x = task.examples("test", np.arange(1))[0][0].tolist()
    assert x[:14] == [3, 3, 3, 3, 4, 4, 4, 5, 5, 6, 7, 1, 1, 2]


def test_texts_come_back_and_every_review_is_there_once(built):
    """The miniature archive, decoded: each split holds the texts that were written into it."""
    task, spec = built["imdb"], SPECS["imdb"]
    reviews = imdb_reviews()
    train = [text for name, text in reviews.items() if "/train/" in name]
    counts = Counter("".join(text[: spec.length - 1] for text in train))
    known = {c for c, n in counts.items() if n >= spec.min_frequency}
    shown = {
        name: "".join(c if c in known else "<unk>" for c in text[: spec.length - 1]) + "<eos>"
        for name, text in reviews.items()
    }
    assert set(task.vocabulary.symbols[3:]) == known
    found = {}
    for split, size in task.sizes.items():
        x, y = task.examples(split, np.arange(size))
        found[split] = sorted(
            (task.vocabulary.text(row), int(label)) for row, label in zip(x.numpy(), y, strict=True)
        )
    labelled = {
        part: sorted((shown[n], int("/pos/" in n)) for n in reviews if f"/{part}/" in n)
        for part in ("train", "test")
    }
    assert found["test"] == labelled["test"]
    assert sorted(found["train"] + found["validation"]) == labelled["train"]
    assert len(found["validation"]) == round(0.1 * 40)


def test_the_split_seed_draws_the_validation_set(tmp_path, built):
    write_imdb(tmp_path / "downloads")
    options = {"length": 128, "min_frequency": 3}
    same, other = imdb(tmp_path, **options), imdb(tmp_path, **options, split_seed=1)
    assert same.fingerprint == built["imdb"].fingerprint
    assert other.fingerprint != same.fingerprint
    assert other.pool_fingerprint == same.pool_fingerprint
    rows = np.arange(4)
    assert not (same.examples("validation", rows)[0] == other.examples("validation", rows)[0]).all()


def test_caps_keep_the_classes_balanced(tmp_path):
    write_imdb(tmp_path / "downloads")
    task = imdb(tmp_path, length=64, test=10)
    assert task.summary()["balance"]["test"]["classes"] == [5, 5]


def test_one_copy_serves_all_lengths_and_vocabularies(tmp_path):
    write_imdb(tmp_path / "downloads")
    tasks = [
        imdb(tmp_path, length=length, min_frequency=frequency, vocabulary=size)
        for length, frequency, size in ((64, 1, 100), (4096, 15, 192), (64, 1, 20))
    ]
    assert len({task.stored.folder for task in tasks}) == 1
    assert len({task.fingerprint for task in tasks}) == 3
    assert isinstance(tasks[0].stored.arrays["codes"], np.memmap)
    assert tasks[0].stored.arrays["codes"].dtype == np.uint8
    assert imdb(tmp_path, length=4097).stored.folder != tasks[0].stored.folder


def test_sample_shows_text_class_and_tokens(tmp_path):
    task = imdb(tmp_path, BY_HAND, length=8, min_frequency=1, validation_from="test")
    shown = task.sample(tmp_path / "sample").read_text(encoding="utf-8")
    assert "--- neg; 4 tokens, then padding to 8\naab\n" in shown
    assert "[3, 3, 4, 2, 0, 0, 0, 0]" in shown


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"aclImdb/test/pos/0_7.txt": None}, "holds no reviews under test/pos"),
        ({"aclImdb/train/pos/1_10.txt": b"caf\xe9"}, r"train/pos/1_10.txt is not UTF-8 at byte 3"),
    ],
)
def test_wrong_archives_are_refused(tmp_path, change, message):
    files = {name: text.encode() for name, text in BY_HAND.items()} | change
    archive = tmp_path / "downloads" / "aclImdb_v1.tar.gz"
    write_tar(archive, {name: text for name, text in files.items() if text is not None})
    with pytest.raises(ValueError, match=message) as told:
        imdb(tmp_path)
    assert str(archive) in str(told.value)
    assert "\n" not in str(told.value)
