"""The cache: whole or absent, checked, made again when damaged."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from harness.tasks import cache

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
    cache.write(path, ARRAYS)
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
