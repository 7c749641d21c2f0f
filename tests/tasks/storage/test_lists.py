"""Lists inside archives: what a line names is there, once, or the line is named in the refusal.

Each refusal was passed over before: clips moved into training, or a split was empty without a word
of the list.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from pathlib import Path

import numpy as np
import pytest

from harness import tasks
from harness.tasks.specs import ListopsSpec, PathfinderSpec

from ..miniature import without_checksums, write_tar
from ..miniature_media import SPECS, clip_name, pathfinder_members, speech_commands
from ..miniature_text import SPECS as TEXTS
from ..miniature_text import aan_tables, listops_tables, write_lra

LISTS = ("validation_list.txt", "testing_list.txt")
FOLDER = "curv_baseline"
LISTED = PathfinderSpec(name="pathfinder", difficulty="easy", order="listed")
GOOD_LINE = b"imgs/2 sample_0.png 0 0 1.8 6 2.0 5 1.5 1 1"


@pytest.fixture(autouse=True)
def _unchecked(monkeypatch):
    without_checksums(monkeypatch)


def sc10(folder: Path, lists: dict[str, bytes]) -> tasks.Task:
    files = speech_commands() | lists
    write_tar(folder / "downloads" / "speech_commands_v0.02.tar.gz", files)
    return tasks.build(SPECS["sc10"], folder)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> tasks.Task:
    with pytest.MonkeyPatch.context() as monkeypatch:
        without_checksums(monkeypatch)
        return sc10(tmp_path_factory.mktemp("plain"), {})


@pytest.mark.parametrize(
    "dressed",
    [
        lambda text: BOM_UTF8 + text,
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: b"\n\n" + text.replace(b"\n", b" \n\n") + b"  \n",
        lambda text: text.rstrip(b"\n"),
    ],
    ids=["byte order mark", "CRLF", "blank lines", "no last line end"],
)
def test_lists_may_be_dressed_as_editors_do(tmp_path, plain, dressed):
    lists = {name: dressed(speech_commands()[name]) for name in LISTS}
    task = sc10(tmp_path, lists)
    assert task.sizes == {"train": 20, "validation": 10, "test": 10}
    assert task.fingerprint == plain.fingerprint


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize(
    ("number", "entry", "says"),
    [
        (1, "./{}", "which is not there"),
        (2, "speech_commands/{}", "which is not there"),
        (3, "/{}", "which is not there"),
        (5, "go\\x.wav", "which is not there"),
        (4, "go/0000_nohash_0.wav", "which is not there"),
        (6, "zebra/00000001_nohash_0.wav", "which is not there"),
        (7, "{0} {0}", "which is not there"),
        (8, "\ufeff{}", "which is not there"),
        (35, "", "which is not there"),
    ],
)
def test_an_entry_that_names_no_clip_is_refused(tmp_path, name, number, entry, says):
    """Also one of a word that is not among the ten; `number` is its line."""
    lines = speech_commands()[name].decode().splitlines()
    lines[number - 1] = entry.format(lines[number - 1]) if entry else "tree/lost_nohash_0.wav"
    with pytest.raises(ValueError, match=says) as told:
        sc10(tmp_path, {name: "\n".join(lines).encode()})
    assert f"{name}, line {number}, lists '" in str(told.value)
    assert str(tmp_path / "downloads" / "speech_commands_v0.02.tar.gz") in str(told.value)
    assert "\n" not in str(told.value)


def test_bytes_that_are_no_text_and_long_lines_are_shown_in_short(tmp_path):
    for line in (b"\xff\xfe" + b"g\0" * 9, b"x" * 10_000_000):
        with pytest.raises(ValueError, match=r"testing_list\.txt, line 1, lists '") as told:
            sc10(tmp_path, {"testing_list.txt": line})
        assert len(str(told.value)) < 600
        (tmp_path / "downloads" / "speech_commands_v0.02.tar.gz.sha256").unlink(missing_ok=True)


@pytest.mark.parametrize("first", LISTS)
def test_a_clip_that_is_listed_twice_is_refused(tmp_path, first):
    """In one list, or in both: the second line is named."""
    text = speech_commands()["testing_list.txt"] + speech_commands()[first].splitlines()[0]
    with pytest.raises(ValueError, match=rf"testing_list\.txt, line 36, .* {first} has already"):
        sc10(tmp_path, {"testing_list.txt": text})


def test_an_empty_split_names_its_list(tmp_path):
    lists = speech_commands()
    others = b"".join(
        line for line in lists["testing_list.txt"].splitlines(True) if line.startswith(b"tree/")
    )
    with pytest.raises(ValueError, match=r"for test, since testing_list\.txt lists none of these"):
        sc10(tmp_path / "a", {"testing_list.txt": others})
    everything = [clip_name(word, k) for word in SPECS["sc10"].words for k in (0, 1, 3)]
    with pytest.raises(ValueError, match="no clip is left for train, since the lists hold all"):
        sc10(tmp_path / "b", {"validation_list.txt": "\n".join(everything).encode()})


def pathfinder(folder: Path, line: bytes | None = None, count: int = 30) -> tasks.Task:
    """With one more line in the table of folder 2, which has 16."""
    members = pathfinder_members(count, 32, FOLDER)
    if line is not None:
        members[f"pathfinder32/{FOLDER}/metadata/2.npy"] += line + b"\n"
    write_lra(folder / "downloads", listops={}, aan={}, images=members)
    return tasks.build(LISTED, folder)


def labels(task: tasks.Task) -> dict[bytes, int]:
    """{image: its label}, of all splits."""
    found = {}
    for split, size in task.sizes.items():
        x, y = task.examples(split, np.arange(size))
        found |= {row.numpy().tobytes(): int(label) for row, label in zip(x, y, strict=True)}
    return found


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (GOOD_LINE, "lists imgs/2/sample_0.png, which was listed before"),
        (GOOD_LINE.replace(b"e_0", b"e_99"), "lists imgs/2/sample_99.png, which is not there"),
        (GOOD_LINE.replace(b"s/2", b"s/3"), "lists imgs/3/sample_0.png, which is not there"),
        (GOOD_LINE.replace(b"imgs", b"images"), ": expected folder, file, number and label"),
        (GOOD_LINE.replace(b"imgs", b"./imgs"), ": expected folder, file, number and label"),
        (GOOD_LINE.replace(b" 0 0 ", b" 0 1.0 "), ": expected folder, file, number and label"),
        (b"imgs/2 sample_0.png 0", ": expected folder, file, number and label"),
        (b"\xef\xbb\xbf" + GOOD_LINE, ": expected folder, file, number and label"),
        (GOOD_LINE.replace(b"sample_0", b"x" * 10**6), "lists imgs/2/xxx"),
    ],
)
def test_a_wrong_line_of_metadata_is_named(tmp_path, line, says):
    with pytest.raises(ValueError, match="2\\.npy, line 17") as told:
        pathfinder(tmp_path, line)
    assert f"2.npy, line 17{'' if says.startswith(':') else ', '}{says}" in str(told.value)
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 600


def test_a_line_names_the_image_by_its_folder_too(tmp_path):
    """The table of folder 10 lists images of folder 2, as the release's own reader would read it:
    the labels go to those, and not to the files of the same names in folder 10."""
    members = pathfinder_members(30, 32, FOLDER)
    two, ten = (f"pathfinder32/{FOLDER}/metadata/{k}.npy" for k in (2, 10))
    members[two], members[ten] = members[ten], members[two]
    write_lra(tmp_path / "swapped" / "downloads", listops={}, aan={}, images=members)
    plain = labels(pathfinder(tmp_path))
    assert len(plain) == 30
    assert labels(tasks.build(LISTED, tmp_path / "swapped")) == plain


def test_metadata_may_begin_with_a_byte_order_mark(tmp_path):
    members = pathfinder_members(30, 32, FOLDER)
    table = f"pathfinder32/{FOLDER}/metadata/2.npy"
    members[table] = BOM_UTF8 + members[table].replace(b"\n", b"\r\n\r\n")
    write_lra(tmp_path / "marked" / "downloads", listops={}, aan={}, images=members)
    assert tasks.build(LISTED, tmp_path / "marked").fingerprint == pathfinder(tmp_path).fingerprint


def test_too_few_images_for_three_splits_are_said(tmp_path):
    with pytest.raises(
        ValueError, match="pathfinder has no validation examples: its data are too few"
    ):
        pathfinder(tmp_path, count=1)


LISTOPS = ListopsSpec(name="listops", source="lra", train=40, validation=10, test=12)


@pytest.mark.parametrize(
    ("spec", "tables"), [(LISTOPS, listops_tables()), (TEXTS["aan"], aan_tables())]
)
@pytest.mark.parametrize("in_archive", [True, False])
def test_tables_may_be_dressed_as_editors_do(tmp_path, spec, tables, in_archive):
    def dressed(text: bytes) -> bytes:
        return BOM_UTF8 + text.replace(b"\r", b"").replace(b"\n", b"\r\n\r\n")

    marked = {name: dressed(text) for name, text in tables.items()}
    for place, written in (("plain", tables), ("dressed", marked)):
        if in_archive:
            write_tar(
                tmp_path / place / "downloads" / "lra_release.gz",
                {f"lra/tables/{name}": text for name, text in written.items()},
            )
            continue
        (tmp_path / place / "downloads").mkdir(parents=True)
        for name, text in written.items():
            (tmp_path / place / "downloads" / name).write_bytes(text)
    plain, dressed_up = (tasks.build(spec, tmp_path / place) for place in ("plain", "dressed"))
    assert dressed_up.sizes == plain.sizes
    assert dressed_up.pool_fingerprint == plain.pool_fingerprint


@pytest.mark.parametrize(
    ("spec", "tables", "name"),
    [
        (LISTOPS, listops_tables(), "basic_val.tsv"),
        (TEXTS["aan"], aan_tables(), "new_aan_pairs.eval.tsv"),
    ],
)
def test_a_wrong_line_of_a_table_in_an_archive_is_named(tmp_path, spec, tables, name):
    files = {f"lra/tables/{k}": v for k, v in tables.items()}
    files[f"lra/tables/{name}"] += b"\n\nnot a line\n"
    count = files[f"lra/tables/{name}"].count(b"\n")
    write_tar(tmp_path / "downloads" / "lra_release.gz", files)
    with pytest.raises(ValueError, match=rf"^lra/tables/{name}, line {count}: expected"):
        tasks.build(spec, tmp_path)
