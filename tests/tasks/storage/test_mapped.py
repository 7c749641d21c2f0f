"""The mapped cache: whole or absent, built once, never copied into memory."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import io
import json
import multiprocessing
import os
import re
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from harness.tasks.storage import sources
from harness.tasks.storage.archives import members
from harness.tasks.storage.mapped import FORMAT, INDEX, cache_folder, mapped

OPTIONS = {"length": 4, "name": "x"}
IMAGES = np.arange(60, dtype=np.int16).reshape(5, 12)


def build(builder):
    builder.create("images", IMAGES.shape, IMAGES.dtype)[...] = IMAGES
    builder.put("labels", np.arange(5, dtype=np.uint8))
    text = builder.grow("text", np.uint8)
    for byte in range(200):
        text.append(np.full(1000, byte, dtype=np.uint8))
    builder.notes["skipped"] = 3


def never(builder):
    raise AssertionError("built again")


def names(tmp_path):
    return sorted(p.name for p in (tmp_path / "t").iterdir() if p.suffix != ".lock")


def test_built_once_and_mapped_after(tmp_path):
    first = mapped(tmp_path, "t", OPTIONS, build)
    again = mapped(tmp_path, "t", dict(reversed(OPTIONS.items())), never)
    for found in (first, again):
        assert set(found.arrays) == {"images", "labels", "text"}
        np.testing.assert_array_equal(found.arrays["images"], IMAGES)
        assert found.arrays["images"].dtype == np.int16
        np.testing.assert_array_equal(found.arrays["text"], np.repeat(np.arange(200), 1000))
        assert found.notes == {"skipped": 3}
        for array in found.arrays.values():
            assert isinstance(array, np.memmap)
            assert not array.flags.writeable
        found.verify()
    assert first.digest == again.digest
    assert names(tmp_path) == [cache_folder(tmp_path, "t", OPTIONS).name]
    index = json.loads((first.folder / INDEX).read_text())
    assert index["arrays"]["images"]["sha256"] == hashlib.sha256(IMAGES.tobytes()).hexdigest()
    assert index["options"] == OPTIONS


def test_trials_share_the_files_pages(tmp_path):
    """Two processes' maps are of one file, and reading rows takes no more than those rows."""
    found = mapped(tmp_path, "t", OPTIONS, build)
    path = str(found.folder / "images.npy")
    maps = [line for line in Path("/proc/self/maps").read_text().splitlines() if path in line]
    assert maps
    assert all("r--s" in line for line in maps)  # read-only, shared
    rows = found.arrays["images"][np.array([3, 1])]
    np.testing.assert_array_equal(rows, IMAGES[[3, 1]])
    assert np.asarray(rows).base is None or np.asarray(rows).base.nbytes == rows.nbytes


def test_options_and_content_decide(tmp_path):
    def other(builder):
        build(builder)
        builder.put("more", np.ones(1))

    first = mapped(tmp_path, "t", OPTIONS, build)
    second = mapped(tmp_path, "t", OPTIONS | {"length": 5}, other)
    assert first.folder != second.folder
    assert first.digest != second.digest
    assert mapped(tmp_path, "t", OPTIONS | {"length": 6}, build).digest == first.digest


def test_a_failure_leaves_nothing(tmp_path):
    def fail(builder):
        build(builder)
        raise ValueError("no such archive")

    with pytest.raises(ValueError, match="no such archive"):
        mapped(tmp_path, "t", OPTIONS, fail)
    assert names(tmp_path) == []


def _die(tmp_path):
    def fail(builder):
        build(builder)
        os._exit(9)

    mapped(tmp_path, "t", OPTIONS, fail)


def test_a_killed_builder_leaves_nothing_that_is_taken_for_whole(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=_die, args=(tmp_path,))
    process.start()
    process.join(30)
    assert process.exitcode == 9
    assert len(names(tmp_path)) == 1
    assert names(tmp_path)[0].endswith(".tmp")
    mapped(tmp_path, "t", OPTIONS, build).verify()
    assert names(tmp_path) == [cache_folder(tmp_path, "t", OPTIONS).name]


def _build_slowly(tmp_path):
    def slowly(builder):
        with (tmp_path / "built").open("a") as file:
            file.write("x")
        time.sleep(0.2)
        build(builder)

    mapped(tmp_path, "t", OPTIONS, slowly).verify()


def test_of_several_processes_one_builds(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_build_slowly, args=(tmp_path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "built").read_text() == "x"


def edit(folder, **fields):
    index = json.loads((folder / INDEX).read_text())
    (folder / INDEX).write_text(json.dumps(index | fields))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda f: edit(f, format=FORMAT + 1), rf"another version \(format {FORMAT + 1}, not"),
        (lambda f: edit(f, arrays=[]), "no arrays"),
        (lambda f: edit(f, notes=3), "no readable index"),
        (lambda f: (f / INDEX).write_text("{"), "no readable index"),
        (lambda f: (f / INDEX).unlink(), "no readable index"),
        (lambda f: (f / "images.npy").unlink(), "lacks a whole images.npy"),
        (lambda f: os.truncate(f / "images.npy", 200), "lacks a whole images.npy"),
        (lambda f: os.truncate(f / "images.npy", 999), "images.npy that is not what its index"),
        (lambda f: np.save(f / "labels.npy", np.arange(5.0)), "labels.npy that is not what"),
        (lambda f: np.save(f / "labels.npy", [{}]), "lacks a whole labels.npy"),
    ],
)
def test_what_cannot_be_used_is_built_again_with_a_word(tmp_path, harm, says, capsys):
    folder = mapped(tmp_path, "t", OPTIONS, build).folder
    harm(folder)
    mapped(tmp_path, "t", OPTIONS, build).verify()
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(says, line)
    assert line.endswith("; building it again")
    assert names(tmp_path) == [folder.name]
    mapped(tmp_path, "t", OPTIONS, never)


def test_verify_names_the_damaged_file(tmp_path):
    found = mapped(tmp_path, "t", OPTIONS, build)
    path = found.folder / "images.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"images\.npy is damaged: its SHA-256 is") as caught:
        mapped(tmp_path, "t", OPTIONS, never).verify()
    assert "\n" not in str(caught.value)


def test_a_cache_of_an_archive_that_was_replaced_is_built_again(server, tmp_path, capsys):
    server.files["text8.zip"] = b"PK one"

    def from_archive(builder):
        content = builder.archive("text8.zip").read_bytes()
        builder.put("text", np.frombuffer(content, dtype=np.uint8))

    first = mapped(tmp_path, "t", OPTIONS, from_archive)
    assert first.archives == {"text8.zip": hashlib.sha256(b"PK one").hexdigest()}
    for path in (tmp_path / "downloads").glob("text8.zip*"):
        path.unlink()
    assert mapped(tmp_path, "t", OPTIONS, never).digest == first.digest
    (tmp_path / "downloads" / "text8.zip").write_bytes(b"two")
    (tmp_path / "downloads" / "text8.zip.sha256").write_text(hashlib.sha256(b"two").hexdigest())
    second = mapped(tmp_path, "t", OPTIONS, from_archive)
    assert "was built from another text8.zip; building it again" in capsys.readouterr().err
    assert bytes(second.arrays["text"]) == b"two"


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write data under") as caught:
        mapped(tmp_path / "file", "t", OPTIONS, build)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda b: b.put("../x", IMAGES), "an array's name is"),
        (lambda b: (b.put("x", IMAGES), b.put("x", IMAGES)), "an array's name is new"),
        (lambda b: b.put("x", np.array([{}])), "plain numbers, not object"),
        (lambda b: b.put("x", IMAGES[:0]), "x would be empty"),
        (lambda b: b.grow("x", np.uint8), "x would be empty"),
        (lambda b: b.grow("x", np.uint8).append(IMAGES[0]), "grows by vectors of uint8"),
        (lambda b: b.create("x", (10**9, 10**9), np.uint8), r"no room for 1e\+12 MB under"),
        (lambda b: None, "no array was built"),
    ],
)
def test_builders_are_held_to_what_can_be_stored(tmp_path, wrong, says):
    with pytest.raises(ValueError, match=says):
        mapped(tmp_path, "t", OPTIONS, wrong)
    assert names(tmp_path) == []


def from_text8(builder):
    content = builder.archive("text8.zip").read_bytes()
    if content == b"cut off":
        raise ValueError("text8.zip is damaged")
    builder.put("text", np.frombuffer(content, dtype=np.uint8))


def test_what_a_waived_checksum_let_in_is_not_used_without_the_waiver(
    server, tmp_path, monkeypatch
):
    known = dataclasses.replace(sources.SOURCES["text8.zip"], sha256="0" * 64)
    monkeypatch.setitem(sources.SOURCES, "text8.zip", known)
    server.files["text8.zip"] = b"PK other"
    monkeypatch.setenv("HARNESS_DATA_UNCHECKED", "1")
    assert mapped(tmp_path, "t", OPTIONS, from_text8).unchecked == ("text8.zip",)
    assert mapped(tmp_path, "t", OPTIONS, never).unchecked == ("text8.zip",)
    monkeypatch.delenv("HARNESS_DATA_UNCHECKED")
    with pytest.raises(ValueError, match=r"text8\.zip whose known checksum was waived"):
        mapped(tmp_path, "t", OPTIONS, never)


@pytest.mark.parametrize("value", ["true", "yes", "2"])
def test_a_waiver_that_says_nothing_is_refused(server, tmp_path, monkeypatch, value):
    known = dataclasses.replace(sources.SOURCES["text8.zip"], sha256="0" * 64)
    monkeypatch.setitem(sources.SOURCES, "text8.zip", known)
    server.files["text8.zip"] = b"PK other"
    monkeypatch.setenv("HARNESS_DATA_UNCHECKED", value)
    with pytest.raises(ValueError, match="HARNESS_DATA_UNCHECKED must be 0 or 1"):
        mapped(tmp_path, "t", OPTIONS, from_text8)


def test_a_damaged_file_that_nothing_known_vouches_for_sets_no_standard(server, tmp_path):
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    (downloads / "text8.zip").write_bytes(b"cut off")
    with pytest.raises(ValueError, match="damaged"):
        mapped(tmp_path, "t", OPTIONS, from_text8)
    (downloads / "text8.zip").write_bytes(b"whole")
    assert bytes(mapped(tmp_path, "t", OPTIONS, from_text8).arrays["text"]) == b"whole"


def from_zip(builder):
    path = builder.archive("text8.zip")
    content = dict(members(path, lambda name: True, 10**6, 10**6))
    builder.put("text", np.frombuffer(content["text8"], dtype=np.uint8))


def zipped(text):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("text8", text)
    return file.getvalue()


def test_a_download_that_cannot_be_read_is_discarded(server, tmp_path):
    """Whatever else it is: the next fetch gets it again. Before, it stayed for ever."""
    server.files["text8.zip"] = zipped(b"whole")[:-30]
    with pytest.raises(ValueError, match=r"is damaged.*; it was downloaded, and is now discarded"):
        mapped(tmp_path, "t", OPTIONS, from_zip)
    assert not list((tmp_path / "downloads").glob("text8.zip*[!k]"))
    server.files["text8.zip"] = zipped(b"whole")
    assert bytes(mapped(tmp_path, "t", OPTIONS, from_zip).arrays["text"]) == b"whole"


def test_a_file_put_by_hand_that_cannot_be_read_is_left_alone(server, tmp_path):
    path = tmp_path / "downloads" / "text8.zip"
    path.parent.mkdir()
    path.write_bytes(zipped(b"whole")[:-30])
    for _ in range(2):
        with pytest.raises(ValueError, match=r"is damaged.*; remove it to have it fetched again"):
            mapped(tmp_path, "t", OPTIONS, from_zip)
        assert path.read_bytes() == zipped(b"whole")[:-30]
    assert server.asked == []


def test_a_download_that_is_whole_and_not_what_is_asked_for_stays(server, tmp_path):
    """Eight gigabytes are not fetched again because the texts of one table are not in them."""
    server.files["text8.zip"] = zipped(b"whole")

    def wants_more(builder):
        from_zip(builder)
        raise ValueError("has no table")

    for _ in range(2):
        with pytest.raises(ValueError, match=r"^has no table$"):
            mapped(tmp_path, "t", OPTIONS, wants_more)
    assert len(server.asked) == 1


def test_an_archive_that_the_system_cannot_read_is_not_damaged(server, tmp_path, monkeypatch):
    server.files["text8.zip"] = zipped(b"whole")

    def broken(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(zipfile.ZipExtFile, "read", broken)
    with pytest.raises(
        ValueError, match=r"text8\.zip cannot be read, at text8: Input/output error"
    ):
        mapped(tmp_path, "t", OPTIONS, from_zip)
    assert (tmp_path / "downloads" / "text8.zip").is_file()


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "the file")


@pytest.mark.parametrize(
    ("where", "name"),
    [
        ("os", "posix_fallocate"),
        ("os", "fsync"),
        ("numpy.lib.format", "write_array_header_1_0"),
        ("pathlib.Path", "write_text"),
        ("pathlib.Path", "rename"),
    ],
)
def test_a_full_disk_leaves_nothing_and_goes_on_when_there_is_room(
    tmp_path, monkeypatch, where, name
):
    with monkeypatch.context() as patch:
        patch.setattr(f"{where}.{name}", full)
        with pytest.raises(ValueError, match=r"cannot write data under .*No space left") as told:
            mapped(tmp_path, "t", OPTIONS, build)
        assert "\n" not in str(told.value)
        assert names(tmp_path) == []
    mapped(tmp_path, "t", OPTIONS, build).verify()


@pytest.mark.parametrize("damage", [b"", b"{}", b"[" * 100_000, b"\xff", b"[]", b"null"])
def test_an_index_that_is_none_is_built_again(tmp_path, capsys, damage):
    folder = mapped(tmp_path, "t", OPTIONS, build).folder
    (folder / INDEX).write_bytes(damage)
    mapped(tmp_path, "t", OPTIONS, build).verify()
    assert "has no readable index; building it again" in capsys.readouterr().err


def test_an_index_that_was_altered_is_built_again(tmp_path, capsys):
    """A flipped digit in a note could move examples from one split to another."""
    folder = mapped(tmp_path, "t", OPTIONS, build).folder
    text = (folder / INDEX).read_text()
    (folder / INDEX).write_text(text.replace('"skipped": 3', '"skipped": 2'))
    assert mapped(tmp_path, "t", OPTIONS, build).notes == {"skipped": 3}
    assert "has an index that was altered; building it again" in capsys.readouterr().err
    index = json.loads(text)
    del index["sha256"]  # as earlier versions wrote it
    (folder / INDEX).write_text(json.dumps(index))
    assert mapped(tmp_path, "t", OPTIONS, never).notes == {"skipped": 3}


def test_a_lock_that_cannot_be_had_is_one_clear_line(tmp_path):
    folder = cache_folder(tmp_path, "t", OPTIONS)
    (folder.parent / f"{folder.name}.lock").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"cannot write data under .*: Is a directory") as told:
        mapped(tmp_path, "t", OPTIONS, never)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "place", [lambda p: p.write_text("mine"), lambda p: p.symlink_to("/nowhere")]
)
def test_what_is_in_the_way_of_a_cache_is_said_before_it_is_built(tmp_path, place):
    folder = cache_folder(tmp_path, "t", OPTIONS)
    folder.parent.mkdir()
    place(folder)
    with pytest.raises(ValueError, match=r"is in the way: it is no folder; remove it"):
        mapped(tmp_path, "t", OPTIONS, never)
    assert names(tmp_path) == [folder.name]


def test_a_table_put_by_hand_is_read_again_when_it_changes(tmp_path, capsys):
    path = tmp_path / "downloads" / "table.tsv"
    path.parent.mkdir()

    def from_table(builder):
        content = path.read_bytes()
        builder.put("text", np.frombuffer(content, dtype=np.uint8))
        builder.by_hand(path, hashlib.sha256(content).hexdigest())

    path.write_bytes(b"one")
    mapped(tmp_path, "t", OPTIONS, from_table)
    mapped(tmp_path, "t", OPTIONS, never)
    path.write_bytes(b"other")
    assert bytes(mapped(tmp_path, "t", OPTIONS, from_table).arrays["text"]) == b"other"
    assert "was built from another table.tsv" in capsys.readouterr().err
    path.unlink()
    mapped(tmp_path, "t", OPTIONS, never)  # gone is not changed
