"""Downloads: whole and checked, or one line that says what is wrong and what to do."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import io
import multiprocessing
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from harness.tasks.storage import locks, sources, transfer
from harness.tasks.storage.download import fetch
from harness.tools.notes import waiting

from ..miniature import NOWHERE

NAME = "text8.zip"
CONTENT = b"PK" + np.random.default_rng(0).bytes(299_998)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _served(server):
    server.files[NAME] = CONTENT


def change(monkeypatch, **fields):
    source = dataclasses.replace(sources.SOURCES[NAME], **fields)
    monkeypatch.setitem(sources.SOURCES, NAME, source)


def refusal(data_dir, name=NAME):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (each test looks at the words)
        fetch(name, data_dir)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def left(data_dir):
    return sorted(p.name for p in (data_dir / "downloads").iterdir() if p.suffix != ".lock")


def test_a_whole_download_is_kept_and_its_checksum_recorded(server, tmp_path, capsys):
    path = fetch(NAME, tmp_path)
    assert path == tmp_path / "downloads" / NAME
    assert path.read_bytes() == CONTENT
    assert path.with_name(f"{NAME}.sha256").read_text().split() == [SHA256, NAME, "downloaded"]
    assert left(tmp_path) == [NAME, f"{NAME}.sha256"]
    assert fetch(NAME, tmp_path) == path
    assert server.asked == [(NAME, None)]
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [f"{NAME}: done, 0.3 MB in 0 s"]


@pytest.mark.parametrize("fields", [{"sha256": SHA256}, {"md5": MD5}])
def test_the_known_checksum_is_held_to(server, tmp_path, monkeypatch, capsys, fields):
    change(monkeypatch, **fields)
    assert fetch(NAME, tmp_path).read_bytes() == CONTENT
    wrong = {kind: "0" * len(value) for kind, value in fields.items()}
    change(monkeypatch, **wrong)
    message = refusal(tmp_path)
    assert f"expected {next(iter(wrong))}:000" in message
    assert f"found {next(iter(fields))}:{next(iter(fields.values()))}" in message
    monkeypatch.setenv("HARNESS_DATA_UNCHECKED", "1")
    capsys.readouterr()
    assert fetch(NAME, tmp_path).read_bytes() == CONTENT
    assert capsys.readouterr().err == f"{NAME}: its known checksum is waived\n"


def test_a_wrong_file_is_not_kept(server, tmp_path, monkeypatch):
    change(monkeypatch, sha256=SHA256)
    server.faults[NAME] = [("content", b"not it")]
    message = refusal(tmp_path)
    found = hashlib.sha256(b"not it").hexdigest()
    assert f"127.0.0.1: sent a wrong file: expected sha256:{SHA256}, found {found})" in message
    assert left(tmp_path) == []
    assert fetch(NAME, tmp_path).read_bytes() == CONTENT


def test_a_cut_off_download_goes_on_where_it_was(server, tmp_path, capsys):
    server.faults[NAME] = [("cut", 100_000), ("cut", 50_000)]
    assert fetch(NAME, tmp_path).read_bytes() == CONTENT
    assert server.asked == [(NAME, None), (NAME, "bytes=100000-"), (NAME, "bytes=150000-")]
    assert left(tmp_path) == [NAME, f"{NAME}.sha256"]
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == [f"{NAME}: cut off, 0.1 MB in 0 s", f"{NAME}: going on after 0.1 MB"]


def test_what_came_is_kept_for_the_next_process(server, tmp_path):
    server.faults[NAME] = [("cut", 1000), ("cut", 0)]
    message = refusal(tmp_path)
    assert "127.0.0.1: cut off after 1000 bytes, which are kept" in message
    assert (tmp_path / "downloads" / f"{NAME}.part").read_bytes() == CONTENT[:1000]
    assert fetch(NAME, tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == (NAME, "bytes=1000-")


def test_a_server_that_ignores_range_is_taken_from_the_start(server, tmp_path):
    server.faults[NAME] = [("cut", 1000), ("whole",)]
    assert fetch(NAME, tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == (NAME, "bytes=1000-")


def test_a_file_that_changed_meanwhile_is_taken_from_the_start(server, tmp_path):
    server.faults[NAME] = [("cut", 1000), ("cut", 0)]
    refusal(tmp_path)
    server.files[NAME] = b"PK" + CONTENT[:1:-1]
    assert fetch(NAME, tmp_path).read_bytes() == server.files[NAME]
    assert server.asked[-1] == (NAME, "bytes=1000-")


def test_bytes_of_one_mirror_are_not_continued_from_another(server, tmp_path, monkeypatch):
    server.faults[NAME] = [("cut", 1000), ("cut", 0)]
    refusal(tmp_path)
    change(monkeypatch, urls=(f"{server.base}/other/{NAME}",))
    assert fetch(NAME, tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == (NAME, None)


def test_a_part_that_is_whole_needs_nothing_more(server, tmp_path):
    server.faults[NAME] = [("cut", 1000), ("cut", 0)]
    refusal(tmp_path)
    (tmp_path / "downloads" / f"{NAME}.part").write_bytes(CONTENT)
    assert fetch(NAME, tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == (NAME, f"bytes={len(CONTENT)}-")


@pytest.mark.parametrize("status", [403, 500, 404])
def test_the_next_mirror_is_tried(server, tmp_path, monkeypatch, status):
    change(monkeypatch, urls=(f"{server.base}/one/{NAME}", f"{server.base}/two/{NAME}"))
    server.faults[NAME] = [("status", status)]
    assert fetch(NAME, tmp_path).read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_without_any_mirror_one_line_says_what_to_do(server, tmp_path, monkeypatch):
    change(monkeypatch, urls=(f"{server.base}/{NAME}", f"{NOWHERE}/{NAME}"), help="the help")
    server.faults[NAME] = [("status", 403)]
    assert refusal(tmp_path) == (
        f"{NAME} is not here and could not be downloaded "
        "(127.0.0.1: HTTP 403 Forbidden; 127.0.0.1: cannot be reached): "
        f"put it into {tmp_path / 'downloads'} (the help)"
    )


def test_a_file_put_there_by_hand_is_taken(server, tmp_path):
    folder = tmp_path / "downloads"
    folder.mkdir()
    (folder / NAME).write_bytes(b"by hand")
    assert fetch(NAME, tmp_path).read_bytes() == b"by hand"
    assert server.asked == []
    assert left(tmp_path) == [NAME, f"{NAME}.sha256"]


def test_a_file_that_is_no_longer_what_it_was(server, tmp_path):
    path = fetch(NAME, tmp_path)
    path.write_bytes(CONTENT[:-1])
    message = refusal(tmp_path)
    assert f"{NAME} is not what it was" in message
    assert SHA256 in message
    path.with_name(f"{NAME}.sha256").unlink()
    assert fetch(NAME, tmp_path) == path


def test_the_users_own_mirror_comes_first(server, tmp_path, monkeypatch):
    change(monkeypatch, urls=(f"{NOWHERE}/{NAME}",))
    monkeypatch.setenv("HARNESS_DATA_MIRROR", f"{server.base}/deep/")
    assert fetch(NAME, tmp_path).read_bytes() == CONTENT
    monkeypatch.setenv("HARNESS_DATA_MIRROR", "somewhere")
    assert "HARNESS_DATA_MIRROR must be" in refusal(tmp_path / "other")


@pytest.mark.parametrize("lengths", [True, False])
def test_downloads_are_bounded(server, tmp_path, monkeypatch, lengths):
    server.lengths = lengths
    change(monkeypatch, max_bytes=len(CONTENT) - 1)
    assert "larger than 299999 bytes" in refusal(tmp_path)
    assert left(tmp_path) == []
    change(monkeypatch, max_bytes=len(CONTENT))
    assert fetch(NAME, tmp_path).read_bytes() == CONTENT


def test_an_unknown_archive_and_a_folder_that_is_none(tmp_path):
    assert "no archive 'nosuch' is known; there are" in refusal(tmp_path, "nosuch")
    (tmp_path / "file").write_text("")
    assert "cannot write" in refusal(tmp_path / "file")


def _fetch_quietly(data_dir):
    return fetch(NAME, data_dir).read_bytes() == CONTENT


def test_two_processes_share_one_download(server, tmp_path):
    context = multiprocessing.get_context("fork")  # so that they know this server
    processes = [context.Process(target=_fetch_quietly, args=(tmp_path,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0]
    assert server.asked == [(NAME, None)]
    assert (tmp_path / "downloads" / NAME).read_bytes() == CONTENT


def test_whoever_waits_long_is_told_why(server, tmp_path, monkeypatch):
    from filelock import FileLock

    (tmp_path / "downloads").mkdir()
    held, told, said = threading.Event(), threading.Event(), []
    monkeypatch.setattr(locks, "waiting", lambda what: waiting(what, soon=0.0))
    monkeypatch.setattr("harness.tools.notes.say", lambda text: (said.append(text), told.set()))

    def hold():
        with FileLock(tmp_path / "downloads" / f"{NAME}.lock"):
            held.set()
            told.wait(30)

    other = threading.Thread(target=hold)
    other.start()
    assert held.wait(30)
    fetch(NAME, tmp_path)
    other.join()
    assert said == [f"waiting: {NAME}: another process is fetching it"]


def test_a_password_in_a_mirror_is_not_kept_or_shown(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HARNESS_DATA_MIRROR", server.base.replace("//", "//me:SECRET@") + "/deep")
    server.faults[NAME] = [("cut", 1000), ("cut", 0), ("status", 403)]
    assert "SECRET" not in refusal(tmp_path)
    assert left(tmp_path) == [f"{NAME}.part", f"{NAME}.part.from"]
    for path in (tmp_path / "downloads").iterdir():
        assert b"SECRET" not in path.read_bytes()
    assert fetch(NAME, tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == (NAME, "bytes=1000-")
    for wrong in ("ftp://me:SECRET@host/x", "//me:SECRET@host", "https://me:SECRET@"):
        monkeypatch.setenv("HARNESS_DATA_MIRROR", wrong)
        message = refusal(tmp_path / "other")
        assert "HARNESS_DATA_MIRROR must be" in message
        assert "SECRET" not in message
    assert "SECRET" not in capsys.readouterr().err


PAGE = b"<!DOCTYPE html><html>Please log in</html>" * 100


@pytest.mark.parametrize("content", [PAGE, b"", b"Please log in\n", b'{"error": "denied"}'])
def test_what_is_no_archive_is_not_kept(server, tmp_path, content):
    """Before, it was recorded and reported as damaged from then on, however often it was asked
    for."""
    server.faults[NAME] = [("content", content)]
    assert "127.0.0.1: sent no archive: a page, perhaps, or nothing" in refusal(tmp_path)
    assert left(tmp_path) == []
    assert fetch(NAME, tmp_path).read_bytes() == CONTENT


def test_the_next_mirror_is_tried_after_a_page(server, tmp_path, monkeypatch):
    change(monkeypatch, urls=(f"{server.base}/one/{NAME}", f"{server.base}/two/{NAME}"))
    server.faults[NAME] = [("content", PAGE)]
    assert fetch(NAME, tmp_path).read_bytes() == CONTENT


def test_a_page_does_not_replace_what_came_before(server, tmp_path):
    """A login that has run out answers the rest of a download with a page, status 200."""
    server.faults[NAME] = [("cut", 1000), ("cut", 0)]
    refusal(tmp_path)
    server.faults[NAME] = [("page", PAGE)]
    assert "sent a page instead of the file; it may ask for a login" in refusal(tmp_path)
    assert (tmp_path / "downloads" / f"{NAME}.part").read_bytes() == CONTENT[:1000]
    assert fetch(NAME, tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == (NAME, "bytes=1000-")


@pytest.mark.parametrize("content", [b"", b"\x80 damaged", b"0" * 64, b"x" * 10**6])
def test_a_damaged_record_is_told_apart_from_a_damaged_archive(server, tmp_path, content):
    record = fetch(NAME, tmp_path).with_name(f"{NAME}.sha256")
    record.write_bytes(content)
    if not content:  # a full disk's
        assert fetch(NAME, tmp_path).read_bytes() == CONTENT
        return
    assert record.name in refusal(tmp_path)
    record.unlink()
    assert fetch(NAME, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("place", "says"),
    [
        (lambda path: path.mkdir(), "is no file: put the file there"),
        (lambda path: path.symlink_to("/nowhere/x"), "is a link that leads to no file"),
        (lambda path: path.symlink_to(path), "is a link that leads to no file"),
    ],
    ids=["folder", "dangling link", "looping link"],
)
def test_what_stands_in_the_place_of_an_archive_is_left_alone(server, tmp_path, place, says):
    path = tmp_path / "downloads" / NAME
    path.parent.mkdir()
    place(path)
    assert says in refusal(tmp_path)
    assert server.asked == []
    assert path.is_symlink() or path.is_dir()


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "the file")


def test_a_full_disk_keeps_what_came_and_goes_on_when_there_is_room(server, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        server.faults[NAME] = [("cut", 100_000)]
        assert "No space left on device" in refusal(tmp_path)
    assert left(tmp_path) == [f"{NAME}.part", f"{NAME}.part.from"]
    assert fetch(NAME, tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == (NAME, "bytes=100000-")


def test_a_full_disk_leaves_no_half_record(server, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        assert "No space left on device" in refusal(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        assert "No space left on device" in refusal(tmp_path)
    assert not list((tmp_path / "downloads").glob("*.tmp"))
    assert fetch(NAME, tmp_path).read_bytes() == CONTENT
    assert left(tmp_path) == [NAME, f"{NAME}.sha256"]


def test_what_a_killed_process_left_is_cleared(server, tmp_path):
    new = tmp_path / "downloads" / f".{NAME}.new"
    new.mkdir(parents=True)
    (new / "tmp1234").write_bytes(CONTENT)
    fetch(NAME, tmp_path)
    assert left(tmp_path) == [NAME, f"{NAME}.sha256"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_tells_rate_and_time_left_once_a_second():
    now = [0.0]
    stream = Terminal()
    progress = transfer.Progress("x.gz", 10_000_000, 110_000_000, stream, lambda: now[0])
    for tenth in range(1, 31):  # 2 MB/s
        now[0] = tenth / 10
        progress.show(10_000_000 + tenth * 200_000)
    progress.end(16_000_000, "cut off")
    assert stream.getvalue().replace("\x1b[K", "").replace("\r", "\n").split("\n")[1:] == [
        "",
        "x.gz: 12.0 MB of 110.0 MB (11%), 2.0 MB/s, 49 s left",
        "x.gz: 14.0 MB of 110.0 MB (13%), 2.0 MB/s, 48 s left",
        "x.gz: 16.0 MB of 110.0 MB (15%), 2.0 MB/s, 47 s left",
        "x.gz: cut off, 16.0 MB in 3 s",
        "",
    ]


def test_progress_is_brief_where_there_is_no_terminal():
    now = [0.0]
    stream = io.StringIO()
    progress = transfer.Progress("x.gz", 0, None, stream, lambda: now[0])
    for second in range(1, 121):
        now[0] = float(second)
        progress.show(second * 1_000_000)
    assert stream.getvalue().splitlines()[0] == "x.gz: 30.0 MB, 1.0 MB/s"
    assert len(stream.getvalue().splitlines()) == 4
