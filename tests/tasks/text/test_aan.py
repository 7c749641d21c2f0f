"""aan: pairs by hand, documents stored once, tables by hand or from the archive, missing texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.tasks import build
from harness.tasks.specs import AanSpec
from harness.tasks.text.aan import Aan

from ..miniature import without_checksums
from ..miniature_text import aan_documents, aan_pairs, aan_tables, write_lra

# Characters of the training pairs: a 4, b 2, " 2, d 1; quotes stay where they are.
BY_HAND = {
    "new_aan_pairs.train.tsv": '1\tP1\tP2\t"aab"\td\n0.0\tP3\tP4\tab\ta\n',
    "new_aan_pairs.eval.tsv": "1.0\tP1\tP9\td\tz\n",
    "new_aan_pairs.test.tsv": "0\tP3\tP3\tab\tab\n",
}


@pytest.fixture(autouse=True)
def _unchecked(monkeypatch):
    without_checksums(monkeypatch)


def aan(data_dir: Path, tables: dict[str, bytes] | None = None, **options: object) -> Aan:
    """The task, with `tables` put into the downloads by hand."""
    folder = data_dir / "downloads"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (tables or {}).items():
        (folder / name).write_bytes(content)
    task = build(AanSpec.model_validate({"name": "aan", **options}), data_dir)
    assert isinstance(task, Aan)
    return task


def encoded(tables: dict[str, str]) -> dict[str, bytes]:
    return {name: text.encode() for name, text in tables.items()}


def test_tokens_by_hand(tmp_path):
    """a 3; of " and b, two each, the quote has the smaller code point: 4, then b 5, d 6."""
    task = aan(tmp_path, encoded(BY_HAND), length=6)
    assert task.vocabulary.symbols[3:] == ("a", '"', "b", "d")
    x, y = task.examples("train", np.arange(2))
    assert x.tolist() == [
        [[4, 3, 3, 5, 4, 2], [6, 2, 0, 0, 0, 0]],
        [[3, 5, 2, 0, 0, 0], [3, 2, 0, 0, 0, 0]],
    ]
    assert y.tolist() == [1, 0]
    assert task.examples("validation", np.arange(1))[0].tolist() == [
        [[6, 2, 0, 0, 0, 0], [1, 2, 0, 0, 0, 0]]
    ]
    assert task.examples("test", np.arange(1))[0][0, 0].tolist() == [3, 5, 2, 0, 0, 0]
    assert task.sizes == {"train": 2, "validation": 1, "test": 1}


def test_the_vocabulary_counts_pairs_not_documents_and_only_what_is_kept(tmp_path):
    """Cut to 2: "a, d, ab, a are seen: a 3; then \", b, d once each. A document that stands in
    two more pairs counts three times."""
    tables = encoded(BY_HAND)
    assert aan(tmp_path / "a", tables, length=3).vocabulary.symbols[3:] == ("a", '"', "b", "d")
    tables["new_aan_pairs.train.tsv"] += b"0\tP2\tP2\td\td\n" * 2
    assert aan(tmp_path / "b", tables, length=3).vocabulary.symbols[3:] == ("d", "a", '"', "b")
    rare = aan(tmp_path / "b", length=3, min_frequency=2)
    assert rare.vocabulary.symbols[3:] == ("d", "a")


def test_texts_come_back_from_the_archive(built):
    task, texts = built["aan"], aan_documents()
    for seed, split in enumerate(("train", "validation", "test")):
        pairs = aan_pairs(task.sizes[split], seed)
        x, y = task.examples(split, np.arange(len(pairs)))
        assert x.shape == (len(pairs), 2, 64)
        for shown, label, (expected, first, second) in zip(x.numpy(), y, pairs, strict=True):
            assert int(label) == expected
            for tokens, number in zip(shown, (first, second), strict=True):
                assert task.vocabulary.text(tokens) == texts[number][:63] + "<eos>"
    assert task.stored.notes["documents"] <= 12
    assert len(task.stored.arrays["ends"]) == task.stored.notes["documents"]


def test_tables_by_hand_are_the_same_data_as_the_archive(built, tmp_path):
    """Also where the archive holds the tables in another order."""
    by_hand = aan(tmp_path / "hand", aan_tables(), length=64)
    assert by_hand.fingerprint == built["aan"].fingerprint
    assert sorted(by_hand.stored.archives) == sorted(aan_tables())
    backwards = dict(reversed(aan_tables().items()))
    write_lra(tmp_path / "tar" / "downloads", aan=backwards)
    assert aan(tmp_path / "tar", length=64).fingerprint == built["aan"].fingerprint


def test_pairs_without_texts_are_explained(tmp_path):
    """The official release has ids alone: one line says what is missing and where it is."""
    write_lra(tmp_path / "tar" / "downloads", aan=aan_tables(texts=False))
    renamed = {k.replace(".only_ids", ""): v for k, v in aan_tables(texts=False).items()}
    for folder, tables in (("tar", None), ("hand", aan_tables(texts=False)), ("other", renamed)):
        with pytest.raises(ValueError, match="only the ids of AAN's pairs are here") as told:
            aan(tmp_path / folder, tables)
        assert "aan.how" in str(told.value)
        assert "new_aan_pairs.eval.tsv" in str(told.value)
        assert "\n" not in str(told.value)
        assert not list((tmp_path / folder).glob("aan/*/index.json"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"2\tP1\tP2\ta\tb\n", "train.tsv, line 3: expected label 0 or 1"),
        (b"1\tP1\tP2\ta\tb\tc\n", "train.tsv, line 3: expected label 0 or 1, two ids"),
        (b"1\tP1\tP2\ta\tb\xff\n", "train.tsv, line 3: a text is not UTF-8 at its byte 1"),
    ],
)
def test_wrong_lines_are_refused(tmp_path, line, message):
    tables = encoded(BY_HAND)
    tables["new_aan_pairs.train.tsv"] += line
    with pytest.raises(ValueError, match=message):
        aan(tmp_path, tables)


def test_some_of_the_tables_are_not_enough(tmp_path):
    tables = encoded(BY_HAND)
    del tables["new_aan_pairs.test.tsv"]
    with pytest.raises(ValueError, match=r"but not new_aan_pairs\.test\.tsv"):
        aan(tmp_path, tables)


def test_no_archive_says_that_tables_will_do(tmp_path):
    message = r"lra_release\.gz is not here .*; or put new_aan_pairs\.train\.tsv, .* by hand"
    with pytest.raises(ValueError, match=message) as told:
        aan(tmp_path)
    assert "\n" not in str(told.value)
