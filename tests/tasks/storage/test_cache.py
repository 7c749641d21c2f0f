"""The cache: whole or absent, checked, made again when damaged."""

from __future__ import annotations

import errno
import os
import threading
import time

import numpy as np
import pytest

from harness.tasks.storage import cache

ARRAYS: dict[str, np.ndarray] = {
    "a": np.arange(1000, dtype=np.int64),
    "b": np.ones((3, 4), dtype=np.uint8),
}


def never():
    raise AssertionError("made again")


def same(found):
    return set(found) == set(ARRAYS) and all(np.array_equal(found[k], ARRAYS[k]) for k in ARRAYS)


def test_made_once_and_read_after(tmp_path):
    path = tmp_path / "deep" / "x.npz"
    assert same(cache.cached(path, lambda: ARRAYS))
    assert same(cache.cached(path, never))
    assert [p.name for p in path.parent.iterdir()] == ["x.npz"]


def test_damage_is_noticed_and_mended(tmp_path):
    path = tmp_path / "x.npz"
    cache.cached(path, lambda: ARRAYS)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [b"", b"not an archive", whole[: len(whole) // 2]]
    for position in rng.integers(0, len(whole), 40):
        damaged.append(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
    messages: list[str] = []
    for content in damaged:
        path.write_bytes(content)
        try:
            # A flipped bit may sit in a field that no reader looks at, a date for one.
            assert same(cache.read(path))
        except cache.DamagedError as error:
            messages.append(str(error))
    assert len(messages) > 35
    assert not any("\n" in message for message in messages)
    path.write_bytes(whole[:100])
    with pytest.warns(UserWarning, match=r"x.npz is damaged"):
        assert same(cache.cached(path, lambda: ARRAYS))
    assert same(cache.cached(path, never))


def test_altered_content_with_a_sound_archive_is_noticed(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, a=ARRAYS["a"], b=ARRAYS["b"], sha256=np.array("0" * 64))
    with pytest.raises(cache.DamagedError, match="checksum"):
        cache.read(path)


def test_pickles_are_refused(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, a=np.array([{"x": 1}], dtype=object))
    with pytest.raises(cache.DamagedError):
        cache.read(path)


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        cache.cached(tmp_path / "x.npz", lambda: {"a": np.zeros(1 // 0)})
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_one_clear_line(tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(ValueError, match="cannot write data under") as caught:
        cache.cached(tmp_path / "data" / "x.npz", lambda: ARRAYS)
    assert "\n" not in str(caught.value)


def test_many_at_once(tmp_path):
    found = []
    threads = [
        threading.Thread(
            target=lambda: found.append(cache.cached(tmp_path / "x.npz", lambda: ARRAYS))
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(map(same, found))


def test_of_many_one_makes_them(tmp_path):
    made = []

    def slowly():
        made.append(1)
        time.sleep(0.1)
        return ARRAYS

    threads = [
        threading.Thread(target=lambda: cache.cached(tmp_path / "d" / "x.npz", slowly))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]


def test_what_cannot_be_written_is_not_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write data under"):
        cache.cached(tmp_path / "file" / "d" / "x.npz", never)
    with pytest.raises(ValueError, match=r"no room for 1e\+12 MB under .* are free"):
        cache.cached(tmp_path / "d" / "x.npz", never, size=10**18)
    assert list((tmp_path / "d").iterdir()) == []


@pytest.mark.parametrize("place", [lambda p: p.mkdir(), lambda p: p.symlink_to(p)])
def test_what_is_no_file_is_one_clear_line(tmp_path, place):
    place(tmp_path / "x.npz")
    with pytest.raises(ValueError, match=r"cannot read .*x\.npz: (Is a directory|Too many)"):
        cache.cached(tmp_path / "x.npz", never)


def test_a_full_disk_leaves_nothing_and_goes_on_when_there_is_room(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "d" / "x.npz"
    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            with pytest.raises(ValueError, match=r"cannot write .*: No space left on device"):
                cache.cached(path, lambda: ARRAYS)
        assert list(path.parent.iterdir()) == []
    assert same(cache.cached(path, lambda: ARRAYS))


def test_what_killed_processes_left_is_cleared(tmp_path):
    (tmp_path / "x.npzabc.tmp").write_bytes(b"half")
    cache.cached(tmp_path / "x.npz", lambda: ARRAYS)
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


def test_too_little_memory_is_no_damage(tmp_path, monkeypatch):
    cache.cached(tmp_path / "x.npz", lambda: ARRAYS)

    def short(*_, **__):
        raise MemoryError

    monkeypatch.setattr(np, "load", short)
    with pytest.raises(MemoryError):
        cache.cached(tmp_path / "x.npz", never)
