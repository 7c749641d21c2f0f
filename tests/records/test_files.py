"""A file is whole or not there, whatever kills its writer."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from harness.records.files import TEMPORARY_PREFIX, read_json, write_atomic, write_json

KILLED_BEFORE_RENAME = """
import os, signal, sys
from pathlib import Path
from harness.records.files import write_atomic
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
write_atomic(Path(sys.argv[1]), b"new" * 100)
"""


@pytest.mark.parametrize("before", [None, b"old"])
def test_a_killed_writer_leaves_what_was_there(tmp_path, before):
    path = tmp_path / "file"
    if before is not None:
        path.write_bytes(before)
    done = subprocess.run([sys.executable, "-c", KILLED_BEFORE_RENAME, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (path.read_bytes() if path.exists() else None) == before
    leftovers = [one.name for one in tmp_path.iterdir() if one != path]
    assert len(leftovers) == 1  # it died where it was meant to
    assert leftovers[0].startswith(TEMPORARY_PREFIX)


def test_an_error_leaves_no_temporary_file(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("disk")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="disk"):
        write_atomic(tmp_path / "file", b"x")
    assert list(tmp_path.iterdir()) == []


def test_content_is_on_disk_before_the_name(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd))[1])
    monkeypatch.setattr(os, "replace", lambda *a: (calls.append("replace"), replace(*a))[1])
    write_atomic(tmp_path / "deep" / "er" / "file", b"x")
    assert calls == ["fsync", "replace", "fsync"]
    assert (tmp_path / "deep" / "er" / "file").read_bytes() == b"x"


def test_json_is_canonical_and_refuses_nan(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"b": 1, "a": [0.1]})
    assert path.read_text() == '{\n "a": [\n  0.1\n ],\n "b": 1\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": [0.1], "b": 1}


@pytest.mark.parametrize("damaged", [b"", b'{"a": 1', b"\xff\xfe"])
def test_damaged_json_names_the_file(tmp_path, damaged):
    path = tmp_path / "a.json"
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"a\.json is not valid JSON"):
        read_json(path)


def test_a_write_that_finds_no_room_names_its_file(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomic(tmp_path / "a.json", b"{}")
    assert caught.value.filename == str(tmp_path / "a.json")
    assert list(tmp_path.iterdir()) == []
