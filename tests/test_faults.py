"""The tool that kills at will kills where it says, and sees what the records do to files."""

import errno
import os
import shutil

import pytest

from harness.records.files import write_atomic
from tests.faults import changes, full_from, killed_at


def write(folder):
    return lambda: write_atomic(folder / "deep" / "file", b"x" * 100)


def test_it_sees_every_change_in_order(tmp_path):
    seen = changes(tmp_path, write(tmp_path))
    assert [what for what, _ in seen] == ["mkdir", "open", "fsync", "rename", "fsync"]
    assert seen[3][1] == tmp_path / "deep" / "file"
    assert changes(tmp_path / "elsewhere", write(tmp_path)) == []
    removed = changes(tmp_path, lambda: shutil.rmtree(tmp_path / "deep"))
    assert removed == [("remove", tmp_path / "deep" / "file"), ("rmdir", tmp_path / "deep")]


@pytest.mark.parametrize("k", range(6))
def test_it_kills_right_before_the_change(tmp_path, k):
    assert killed_at(k, tmp_path, write(tmp_path)) == (k < 5)
    found = sorted(path.name for path in tmp_path.rglob("*"))
    assert len(found) == min(k, 2)
    assert ("file" in found) == (k > 3)
    if k == 2:  # half of what was not durable yet is lost
        assert next((tmp_path / "deep").iterdir()).stat().st_size == 50


def test_a_full_disk_takes_nothing_more_but_gives_back(tmp_path):
    (tmp_path / "old").write_bytes(b"x")
    for k in range(3):
        with full_from(k, tmp_path) as refused, pytest.raises(OSError, match="No space") as caught:
            write(tmp_path / str(k))()
        assert caught.value.errno == errno.ENOSPC
        assert len(refused) == 1
        assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".tmp-")]
    with full_from(0, tmp_path) as refused:
        os.replace(tmp_path / "old", tmp_path / "new")
        (tmp_path / "new").unlink()
    assert refused == []
