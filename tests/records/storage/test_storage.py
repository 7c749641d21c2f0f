"""The contract of a storage: the same cases over a folder and over buckets of real servers."""

import os
import threading

import pytest

from harness.records.files import TEMPORARY_PREFIX
from harness.records.storage import Bucket, Folder

RIVALS = 8


def race(attempt):
    """What rivals get that all try at once, and how many got anything."""
    found, begin = [], threading.Barrier(RIVALS)

    def run(number):
        begin.wait()
        found.append(attempt(number))

    threads = [threading.Thread(target=run, args=(i,)) for i in range(RIVALS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == RIVALS
    return [one for one in found if one is not None]


@pytest.mark.parametrize("data", [b"", b"\0\xff" * 7, b"x" * 6_000_000], ids=len)
def test_what_was_written_is_read(storage, data):
    assert storage.read("trials/ab/one") is None
    assert not storage.exists("trials/ab/one")
    storage.write("trials/ab/one", data)
    assert storage.read("trials/ab/one").data == data
    assert storage.exists("trials/ab/one")
    (entry,) = storage.list("trials/")
    assert (entry.key, entry.size) == ("trials/ab/one", len(data))
    assert entry.modified == pytest.approx(storage.modified("trials/ab/one"), abs=1.0)
    storage.write("trials/ab/one", b"new")
    assert storage.read("trials/ab/one").data == b"new"


def test_what_is_larger_than_asked_for_is_not_read(storage):
    storage.write("x", b"123")
    assert storage.read("x", 3).data == b"123"
    with pytest.raises(ValueError, match=r"x is larger than .* MiB"):
        storage.read("x", 2)


def test_only_the_first_creates(storage):
    version = storage.create("a/b", b"first")
    assert storage.create("a/b", b"second") is None
    assert storage.read("a/b").data == b"first"
    assert storage.read("a/b").version == version
    storage.delete("a/b")
    assert storage.create("a/b", b"second") is not None


def test_one_of_many_creates(storage):
    for turn in range(10):
        won = race(lambda i, key=f"race/{turn}": i if storage.create(key, b"%d" % i) else None)
        assert len(won) == 1
        assert storage.read(f"race/{turn}").data == b"%d" % won[0]


def test_a_swap_replaces_the_version_that_it_names(storage):
    first = storage.create("claims/x", b"1")
    second = storage.swap("claims/x", b"2", first)
    assert storage.swap("claims/x", b"other", first) is None
    third = storage.swap("claims/x", b"3", second)
    assert storage.read("claims/x").data == b"3"
    assert storage.read("claims/x").version == third
    assert storage.create("claims/x", b"4") is None


def test_a_version_of_long_ago_swaps_nothing(storage):
    """Also where the versions between were removed."""
    old = [storage.create("claims/x", b"0")]
    for i in range(1, 8):
        old.append(storage.swap("claims/x", b"%d" % i, old[-1]))
    for version in old[:-1]:
        assert storage.swap("claims/x", b"zombie", version) is None
    assert storage.read("claims/x").data == b"7"
    assert storage.swap("claims/x", b"8", old[-1]) is not None


def test_one_of_many_swaps(storage):
    version = storage.create("claims/x", b"begin")
    for turn in range(10):
        before = version
        won = race(lambda i, v=before, n=turn: storage.swap("claims/x", b"%d %d" % (n, i), v))
        assert len(won) == 1
        (version,) = won
        assert storage.read("claims/x").version == version


def test_what_is_gone_is_not_swapped(storage):
    version = storage.swap("claims/x", b"2", storage.create("claims/x", b"1"))
    storage.delete("claims/x")
    assert storage.read("claims/x") is None
    assert storage.swap("claims/y", b"2", version) is None
    assert [*storage.list("claims/")] == []


def test_listings(storage):
    for key in ("trials/a/x", "trials/a/deep/y", "trials/b", "other/z"):
        storage.write(key, b"1")
    storage.swap("trials/c", b"2", storage.create("trials/c", b"1"))
    keys = sorted(entry.key for entry in storage.list("trials/"))
    assert keys == ["trials/a/deep/y", "trials/a/x", "trials/b", "trials/c"]
    assert len([*storage.list()]) == 5
    assert [*storage.children("trials/")] == ["a", "b", "c"]
    assert [*storage.children()] == ["other", "trials"]
    assert [*storage.children("nowhere/")] == []
    storage.delete_all("trials/a/")
    storage.delete_all("nowhere/")
    storage.delete("trials/nothing")
    storage.rename("trials/b", "trials/d")
    assert sorted(entry.key for entry in storage.list("trials/")) == ["trials/c", "trials/d"]
    assert {*storage.children("trials/")} - {"a"} == {"c", "d"}


def test_a_prefix_is_no_other(storage):
    storage.write("trials/ab/x", b"1")
    storage.write("trials/abc/x", b"1")
    assert [entry.key for entry in storage.list("trials/ab/")] == ["trials/ab/x"]
    storage.delete_all("trials/ab/")
    assert [entry.key for entry in storage.list("trials/")] == ["trials/abc/x"]


# Folders


def test_temporary_files_are_no_objects(tmp_path):
    storage = Folder(tmp_path)
    storage.create("a/b", b"1")
    (tmp_path / "a" / f"{TEMPORARY_PREFIX}12-ab").touch()
    assert [entry.key for entry in storage.list()] == ["a/b"]
    assert [*storage.children("a/")] == ["b"]


def test_few_versions_stay_and_no_temporary_file(tmp_path):
    storage = Folder(tmp_path)
    version = storage.create("x", b"0")
    for i in range(20):
        version = storage.swap("x", b"%d" % i, version)
    assert len(os.listdir(tmp_path / "x.versions")) == 2
    assert sorted(os.listdir(tmp_path)) == ["x", "x.versions"]


def test_a_link_whose_answer_was_lost_has_won(tmp_path, monkeypatch):
    """As network file systems do: the request is sent again and finds its own link."""
    link = os.link

    def twice(source, target):
        link(source, target)
        raise FileExistsError(17, "File exists", target)

    monkeypatch.setattr(os, "link", twice)
    assert Folder(tmp_path).create("x", b"1") is not None


def test_a_file_system_without_links_is_named(tmp_path, monkeypatch):
    def refuse(source, target):
        raise PermissionError(1, "Operation not permitted", source, None, target)

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(OSError, match="makes no hard links") as caught:
        Folder(tmp_path).create("x", b"1")
    assert caught.value.filename == str(tmp_path / "x")
    assert os.listdir(tmp_path) == []


# Buckets


def test_an_answer_that_was_lost_has_won(moto):
    """obstore sends such a request again, and the server refuses what it has already done."""
    bucket = Bucket(f"{moto}/lost")
    version = bucket.create("x", b"mine")
    assert bucket.create("x", b"mine") == version
    assert bucket.swap("x", b"mine", "of long ago\n") == version
    assert bucket.create("x", b"other's") is None


def test_a_bucket_that_is_there_and_heeds_conditions_passes(moto):
    bucket = Bucket(f"{moto}/probed", patient=False)
    bucket.probe(writing=True)
    assert [*bucket.list()] == []


def test_a_bucket_that_is_not_there_is_named(moto):
    with pytest.raises(ValueError, match=r"cannot use s3://nobody as a store: list is refused: ."):
        Bucket("s3://nobody", patient=False).probe(writing=False)


def test_a_server_that_does_not_answer_is_refused_soon(moto, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(ValueError, match="cannot use s3://records as a store: list is refused"):
        Bucket("s3://records", patient=False).probe(writing=True)


@pytest.mark.parametrize(
    ("operation", "answer", "said"),
    [
        ("create", "version", "its server ignores If-None-Match"),
        ("swap", "version", "its server ignores If-Match"),
        ("swap", None, "its server ignores If-Match"),
        ("create", PermissionError(13, "access denied"), "create .* is refused: access denied"),
        ("delete", PermissionError(13, "access denied"), "delete is refused: access denied"),
    ],
)
def test_a_bucket_that_lacks_an_operation_is_refused(moto, monkeypatch, operation, answer, said):
    def answering(self, *_):
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(Bucket, operation, answering)
    with pytest.raises(ValueError, match=said) as caught:
        Bucket(f"{moto}/probed", patient=False).probe(writing=True)
    assert "\n" not in str(caught.value)
