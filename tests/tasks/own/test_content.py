"""The SHA-256 of files and folders, and when one that was taken before may stand in for it."""

from __future__ import annotations

import hashlib
import os
import time
from types import SimpleNamespace

import pytest

from harness.tasks.own import content
from harness.tasks.own.content import content_sha256, files_of, located, relative_to


def of(path):
    return content_sha256(path, files_of(path))


def test_a_file_is_its_sha256_and_a_folder_its_names_too(here):
    (here / "a").mkdir()
    (here / "a" / "x.bin").write_bytes(b"one")
    (here / "a" / ".hidden").write_bytes(b"never seen")
    assert of(here / "a" / "x.bin") == hashlib.sha256(b"one").hexdigest()
    first = of(here / "a")
    (here / "a" / ".hidden").write_bytes(b"changed")
    assert of(here / "a") == first
    (here / "a" / "x.bin").rename(here / "a" / "y.bin")
    second = of(here / "a")
    (here / "a" / "z").mkdir()
    (here / "a" / "z" / "x.bin").write_bytes(b"")
    assert len({first, second, of(here / "a")}) == 3


@pytest.mark.parametrize(("age", "again"), [(0, True), (10, False)])
def test_a_file_of_just_now_is_read_again(here, monkeypatch, age, again):
    """Two changes within one tick of the file system's clock leave the same stamp."""
    then = time.time_ns() - age * 10**9
    stamp = SimpleNamespace(st_size=3, st_mtime_ns=then, st_ctime_ns=then, st_ino=1)
    monkeypatch.setattr(content, "os", SimpleNamespace(fstat=lambda _: stamp, walk=os.walk))
    (here / "a").write_bytes(b"one")
    first = of(here / "a")
    (here / "a").write_bytes(b"two")
    assert (of(here / "a") != first) is again


def test_relative_paths(here):
    assert located("a") == here / "a"
    assert located("/b").as_posix() == "/b"
    with relative_to(here / "deep"):
        assert located("a") == here / "deep" / "a"
        with relative_to(here):
            assert located("a") == here / "a"
        assert located("../a") == here / "deep" / ".." / "a"
    assert located("a") == here / "a"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(here):
    (here / "a").write_bytes(b"one")
    (here / "a").chmod(0)
    with pytest.raises(ValueError, match=r"cannot read .*a: Permission denied"):
        of(here / "a")
