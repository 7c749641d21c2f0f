"""ListOps from the Long Range Arena's release: tokens by hand and by the writer, caps, errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.tasks import ListopsSpec, build
from harness.tasks.listops.listops import Listops, cache_path
from harness.tasks.listops.release import tokens_of
from harness.tasks.storage.lra_tables import Table

from ..miniature import without_checksums, write_tar
from ..miniature_text import listops_expressions, listops_table, listops_tables, write_lra

NAMES = ["<pad>", "<unk>", "<eos>", *"0123456789", "[MIN", "[MAX", "[MED", "[SM", "]"]
SMALL = {"train": 40, "validation": 10, "test": 12}


@pytest.fixture(autouse=True)
def _unchecked(monkeypatch):
    without_checksums(monkeypatch)


def listops(data_dir: Path, tables: dict[str, bytes] | None = None, **options: object) -> Listops:
    """The task, with `tables` put into the downloads by hand."""
    folder = data_dir / "downloads"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (tables or {}).items():
        (folder / name).write_bytes(content)
    spec = ListopsSpec.model_validate({"name": "listops", "source": "lra", **SMALL, **options})
    task = build(spec, data_dir)
    assert isinstance(task, Listops)
    return task


def test_tokens_by_hand():
    """Digits from 3, MIN 13, MAX 14, MED 15, SM 16, the closing bracket 17."""
    assert list(tokens_of(b"( ( ( [MAX 2 ) 9 ) ] )")) == [14, 5, 12, 17]
    nested = b"( ( ( ( [SM 0 ) ( ( ( [MIN 7 ) 1 ) ] ) ) ( ( ( [MED 3 ) 4 ) ] ) ) ] )"
    assert list(tokens_of(nested)) == [16, 3, 13, 10, 4, 17, 15, 6, 7, 17, 17]


def test_expressions_come_back_from_the_archive(tmp_path):
    write_lra(tmp_path / "downloads")
    task = listops(tmp_path)
    for seed, split in enumerate(("train", "validation", "test")):
        expected = listops_expressions(SMALL[split], seed)
        x, y = task.examples(split, np.arange(SMALL[split]))
        assert x.shape == (SMALL[split], 2048)
        for row, label, (_, tokens, value) in zip(x.tolist(), y.tolist(), expected, strict=True):
            end = row.index(2)
            assert " ".join(NAMES[t] for t in row[:end]) == tokens
            assert set(row[end + 1 :]) == {0}
            assert label == value
    assert task.summary()["archives"].keys() == {"lra_release.gz"}
    assert "release" in task.provenance
    assert task.sample(tmp_path / "sample").read_text(encoding="utf-8").count("value") == 5


def test_tables_by_hand_are_the_same_data_as_the_archive(tmp_path):
    write_lra(tmp_path / "tar" / "downloads", listops=dict(reversed(listops_tables().items())))
    by_hand = listops(tmp_path / "hand", listops_tables())
    assert by_hand.fingerprint == listops(tmp_path / "tar").fingerprint
    assert sorted(by_hand.summary()["archives"]) == sorted(listops_tables())
    by_hand.verify()


def test_caps_take_the_first_and_are_told_apart(tmp_path):
    whole = listops(tmp_path, listops_tables())
    few = listops(tmp_path, train=7, validation=3, test=5)
    for split, size in (("train", 7), ("validation", 3), ("test", 5)):
        rows = np.arange(size)
        assert (few.examples(split, rows)[0] == whole.examples(split, rows)[0]).all()
    assert few.fingerprint != whole.fingerprint
    with pytest.raises(ValueError, match=r"has 12 test expressions .* asked for 13"):
        listops(tmp_path, test=13)


def test_what_is_too_long_is_cut_so_that_the_end_mark_fits(tmp_path):
    task = listops(tmp_path, listops_tables(), length=8, min_length=0, max_length=8)
    long = 0
    expected = listops_expressions(SMALL["train"], 0)
    for row, (_, tokens, _) in zip(
        task.examples("train", np.arange(40))[0].tolist(), expected, strict=True
    ):
        words = tokens.split()[:7]
        long += len(words) == 7
        assert [NAMES[t] for t in row[: len(words) + 1]] == [*words, "<eos>"]
    assert long > 10


def test_generated_data_keep_their_place(tmp_path):
    """The folders' names as version 016e6e2 of this project, without `source`, gave them."""
    spec = ListopsSpec(name="listops")
    assert cache_path(spec, tmp_path).parent.name == "7320a5015c683352"
    short = {"train": 1500, "validation": 200, "test": 300}
    spec = ListopsSpec(name="listops", min_length=8, max_length=200, length=200, **short)
    assert cache_path(spec, tmp_path).parent.name == "8cad2f3fa5351cae"


GOOD = "Source\tTarget\n( ( ( [MAX 2 ) 9 ) ] )\t9\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD.split("\n", 1)[1], r"basic_val.tsv, line 1: expected the header Source<tab>Target"),
        (GOOD + "( [MAX 2 )\t10\n", r"basic_val.tsv, line 3: .* a tab and a value 0 to 9"),
        (GOOD + "( [MAX 2 )", r"basic_val.tsv, line 3: expected an expression, a tab"),
        (GOOD + "( [FIRST 2 )\t2\n", r"basic_val.tsv, line 3: unknown symbol '\[FIRST'"),
        (GOOD + "<pad>\t2\n", r"basic_val.tsv, line 3: unknown symbol '<pad>'"),
        (GOOD + "( )\t2\n", r"basic_val.tsv, line 3: no expression"),
        ("Source\tTarget\n", r"basic_val.tsv holds no expression"),
    ],
)
def test_wrong_tables_are_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        listops(tmp_path, listops_tables() | {"basic_val.tsv": content.encode()})
    assert not list(tmp_path.glob("listops/*/index.json"))


def test_a_release_without_the_tables_is_refused(tmp_path):
    tables = listops_tables()
    del tables["basic_train.tsv"]
    write_lra(tmp_path / "downloads", listops=tables)
    with pytest.raises(ValueError, match=r"lra_release\.gz: there is no basic_train\.tsv$"):
        listops(tmp_path)


def test_endless_lines_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.tasks.storage.lra_tables._MAX_LINE", 100)
    path = tmp_path / "table.tsv"
    path.write_bytes(listops_table(1, 0) + b"1" * 1000)
    with path.open("rb") as file, pytest.raises(ValueError, match="more than 100 bytes in one"):
        list(Table("table.tsv", file).lines())


def test_reading_stops_at_the_last_table(tmp_path):
    """What follows the tables, even where it is cut off, is not read."""
    image = np.random.default_rng(0).bytes(3_000_000)
    files = {f"lra/listops-1000/{name}": table for name, table in listops_tables().items()}
    path = tmp_path / "downloads" / "lra_release.gz"
    write_tar(path, files | {"lra/pathfinder32/imgs/0/sample_0.png": image})
    path.write_bytes(path.read_bytes()[:-500_000])
    assert listops(tmp_path).sizes == SMALL
