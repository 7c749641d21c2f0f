"""Archives: what is in them comes out; what is hostile or damaged is refused in one line."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from harness.tasks.storage.archives import (
    ArchiveError,
    below_one_root,
    gunzip,
    members,
    opened,
    rooted,
)

from ..miniature import write_tar

FILES = {
    "top.txt": b"top",
    "folder/a.bin": np.random.default_rng(0).bytes(3_000_000),
    "folder/empty": b"",
    "folder/deep/b.txt": b"b" * 70_000,
}


def everything(_: str) -> bool:
    return True


def read(path, wanted=everything, max_member=10**8, max_total=10**9):
    return dict(members(path, wanted, max_member, max_total))


def refusal(path, **limits):
    before = sorted(p for p in path.parent.parent.rglob("*"))
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (each test looks at the words)
        read(path, **limits)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert sorted(p for p in path.parent.parent.rglob("*")) == before
    return str(caught.value)


def write_zip(path, files, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)


KINDS = ["tar", "tar.gz", "gz", "zip"]


@pytest.fixture(params=KINDS)
def archive(request, tmp_path) -> Path:
    path = tmp_path / "in" / f"archive.{request.param}"
    path.parent.mkdir()
    if request.param == "zip":
        write_zip(path, FILES)
    else:
        write_tar(path, FILES, "w" if request.param == "tar" else "w:gz")
    return path


def test_what_is_in_comes_out_in_order(archive):
    assert read(archive) == FILES
    assert list(read(archive)) == list(FILES)
    only = read(archive, wanted=lambda name: name.endswith(".txt"))
    assert only == {name: FILES[name] for name in ("top.txt", "folder/deep/b.txt")}


def test_large_members_can_be_read_piece_by_piece(archive):
    pieces = {}
    for name, file in opened(archive, everything, 10**8, 10**9):
        pieces[name] = [file.read(1000), file.read()]
    assert {name: b"".join(both) for name, both in pieces.items()} == FILES
    lines = [list(f) for _, f in opened(archive, lambda n: n == "top.txt", 10, 10)]
    assert lines == [[b"top"]]


def test_a_member_may_be_left_unread(archive):
    names = [name for name, _ in opened(archive, everything, 10**8, 10**9)]
    assert names == list(FILES)


def test_sizes_are_bounded(archive):
    assert "folder/a.bin has 3000000 bytes, more than 1000000" in refusal(
        archive, max_member=1_000_000
    )
    assert "more than 3000003 bytes up to folder/deep/b.txt" in refusal(
        archive, max_total=3_000_003
    )
    assert len(read(archive, wanted=lambda n: n == "top.txt", max_member=3, max_total=3)) == 1


def test_cut_off_and_damaged_archives(archive):
    whole = archive.read_bytes()
    for share in (0.0, 0.001, 0.5, 0.9, 0.9999):
        archive.write_bytes(whole[: int(share * len(whole))])
        if archive.suffix == ".tar" and share == 0.9999:
            continue  # of a plain tar only padding is missing
        assert "damaged, cut off or no archive" in refusal(archive)
    if archive.suffix != ".tar":  # those have checksums
        middle = len(whole) // 2
        archive.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        refusal(archive)
    archive.write_bytes(b"<html>not found</html>" * 100)
    refusal(archive)


def test_a_missing_archive(tmp_path):
    (tmp_path / "in").mkdir()
    assert "is not here" in refusal(tmp_path / "in" / "nosuch.zip")


def test_the_checksum_at_the_end_of_a_gzip_is_looked_at(tmp_path):
    path = tmp_path / "in" / "a.gz"
    write_tar(path, {"x": b"x"}, "w")
    whole = gzip.compress(path.read_bytes() + bytes(3_000_000))  # more than the reader looks at
    path.write_bytes(whole)
    assert read(path) == {"x": b"x"}
    path.write_bytes(whole[:-8] + bytes(4) + whole[-4:])
    assert "CRC" in refusal(path)


BAD_NAMES = ["/etc/passwd", "../evil", "folder/../../evil", "a\\..\\..\\evil", "C:\\evil"]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_names_that_lead_out_are_refused_wanted_or_not(tmp_path, name, kind):
    path = tmp_path / "in" / f"a.{kind}"
    path.parent.mkdir()
    files = {"fine": b"fine", name: b"evil"}
    if kind == "zip":
        write_zip(path, files)
    else:
        with tarfile.open(path, "w:gz") as archive:
            for member, content in files.items():
                entry = tarfile.TarInfo(member)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    assert "leads out of the archive's folder" in refusal(path)
    assert "leads out" in refusal(path, wanted=lambda name: False)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (tarfile.SYMTYPE, "evil is a link to /etc/passwd"),
        (tarfile.LNKTYPE, "evil is a link to /etc/passwd"),
        (tarfile.CHRTYPE, "evil is a device"),
        (tarfile.BLKTYPE, "evil is a device"),
        (tarfile.FIFOTYPE, "evil is a device"),
        (b"Z", "evil is of an unknown kind"),
    ],
)
def test_links_and_devices_in_a_tar(tmp_path, kind, says):
    path = tmp_path / "in" / "a.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo("evil")
        entry.type, entry.linkname = kind, "/etc/passwd"
        archive.addfile(entry)
    assert says in refusal(path)


def test_a_link_in_a_zip(tmp_path):
    path = tmp_path / "in" / "a.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        entry = zipfile.ZipInfo("evil")
        entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    assert "evil is a link or a device" in refusal(path)


def test_a_bomb_is_not_swallowed(tmp_path):
    path = tmp_path / "in" / "a.zip"
    path.parent.mkdir()
    write_zip(path, {"zeros": bytes(20_000_000)})
    assert path.stat().st_size < 30_000
    assert "zeros has 20000000 bytes" in refusal(path, max_member=1_000_000)


def test_a_zip_that_lies_about_a_size(tmp_path):
    """The directory says 10 bytes, the data unpack to 20,000,000: no more than said comes out."""
    path = tmp_path / "in" / "a.zip"
    path.parent.mkdir()
    write_zip(path, {"zeros": bytes(20_000_000)})
    said = (20_000_000).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(said, (10).to_bytes(4, "little")))
    refusal(path)


def test_an_extended_header_may_not_fill_the_memory(tmp_path):
    path = tmp_path / "in" / "a.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo("x")
        entry.pax_headers = {"comment": "y" * 2_000_000}
        archive.addfile(entry)
    assert "an extended header of 20000" in refusal(path)


def test_a_member_that_comes_twice(tmp_path):
    path = tmp_path / "in" / "a.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as archive:
        for name in ("./x", "x"):
            archive.addfile(tarfile.TarInfo(name))
    assert "x comes twice" in refusal(path)


def test_names_are_normalised(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for name in ("./a//b", "./" + "long/" * 60 + "c"):
            archive.addfile(tarfile.TarInfo(name))
    assert list(read(path)) == ["a/b", "long/" * 60 + "c"]


def test_gunzip(tmp_path):
    path = tmp_path / "in" / "x.gz"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(b"x" * 1000))
    assert gunzip(path, 1000) == b"x" * 1000
    with pytest.raises(ValueError, match="holds more than 999 bytes"):
        gunzip(path, 999)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="damaged, cut off or no archive"):
        gunzip(path, 1000)


def flipped(whole: bytes, random: np.random.Generator) -> bytes:
    content = np.frombuffer(whole, dtype=np.uint8).copy()
    places = random.integers(len(content), size=random.choice([1, 1, 2, 5]))
    content[places] ^= (1 << random.integers(8, size=len(places))).astype(np.uint8)
    return content.tobytes()[: None if random.random() < 0.9 else random.integers(len(content))]


@pytest.mark.parametrize(
    "method", ["tar", "gz", zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2,
               zipfile.ZIP_LZMA],
)  # fmt: skip
def test_flipped_bits_are_one_line_in_our_words(tmp_path, method):
    """Before, lzma's and struct's own errors came through."""
    path = tmp_path / "in" / "a"
    path.parent.mkdir()
    files = {"a/x.txt": b"hello" * 50, "a/y.bin": bytes(range(256)), "b" * 120 + "/z": b"q"}
    if isinstance(method, int):
        write_zip(path, files, method)
    else:
        write_tar(path, files, "w" if method == "tar" else "w:gz")
    whole, random, said = path.read_bytes(), np.random.default_rng(0), []
    for _ in range(300):
        path.write_bytes(flipped(whole, random))
        try:
            found = read(path)
        except ArchiveError as error:
            said.append(str(error))
        else:  # (of a plain tar only the headers have checksums)
            assert method == "tar" or all(files.get(name) in (None, c) for name, c in found.items())
    assert len(said) > 30
    for message in said:
        assert message.startswith(str(path))
        assert "\n" not in message
        assert len(message) < 600


def test_names_of_megabytes_are_cut(tmp_path):
    path = tmp_path / "in" / "a.tar"
    path.parent.mkdir()
    for name in ("/" + "x" * 900_000, "x\n" * 400_000):
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
            entry = tarfile.TarInfo(name)
            entry.type = tarfile.REGTYPE if name[0] == "/" else tarfile.SYMTYPE
            archive.addfile(entry)
        assert len(refusal(path)) < 700


def test_one_root(tmp_path):
    path = tmp_path / "a.tar"
    write_tar(path, {"r/s/x/1.txt": b"1", "r/s/x/2.txt": b"2", "r/y/3.txt": b"3"}, "w")
    pattern = r"x/(?P<number>\d)\.txt"
    found = [(match["key"], match["number"], f.read()) for match, f in
             below_one_root(path, pattern, 9, 9)]  # fmt: skip
    assert found == [("x/1.txt", "1", b"1"), ("x/2.txt", "2", b"2")]
    roots = [(root, match["key"]) for root, match, _ in rooted(path, r"[^/]*\.txt", 9, 9)]
    assert roots == [("r/s/x/", "1.txt"), ("r/s/x/", "2.txt"), ("r/y/", "3.txt")]
    says = r"holds r/y/3\.txt and, in another place, r/s/x/1\.txt: which of the two"
    with pytest.raises(ArchiveError, match=says):
        list(below_one_root(path, r"[^/]*\.txt", 9, 9))
