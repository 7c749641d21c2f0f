"""Reading archives in one pass, without writing anything to disk.

Nothing is extracted, so no archive can write outside its folder; one that tries to (absolute
paths, `..`, links, devices) is still refused, since it is not what it claims to be.

A reader identifies a member by its whole path below a root, the folder in which its publisher
packed the set. With only the end of its name, a second copy elsewhere in the archive
would be mixed in.
"""

from __future__ import annotations

import errno
import gzip
import io
import lzma
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from harness.tools.inputs import cut, shown

Wanted = Callable[[str], bool]

_BLOCK = 1 << 20
_BUFFER = 1 << 15  # tarfile copies what is left of it for every header
_HEADER_BYTES = 1 << 20  # of one extended header, which tarfile reads into memory whole
_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
# What the readers raise for corrupted bytes.
_DAMAGE = (
    EOFError,
    OSError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    ArithmeticError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
_BEGINNINGS = (b"PK", b"\x1f\x8b")  # of a zip, and of what gzip compressed
_TAR_MAGIC = slice(257, 262), b"ustar"


class ArchiveError(ValueError):
    """An error in an archive, in one line that names the archive and the member.

    damaged: its bytes cannot be read, so that another copy is needed; otherwise it is complete, but
    not what it should be.
    """

    def __init__(self, path: Path, what: str, damaged: bool = False) -> None:
        super().__init__(f"{path}{what}")
        self.path, self.damaged = path, damaged


def begins_like_an_archive(path: Path) -> bool:
    """Whether the first bytes are those of a zip, gzip or tar, rather than of a web page."""
    with path.open("rb") as file:
        head = file.read(512)
    place, magic = _TAR_MAGIC
    return head.startswith(_BEGINNINGS) or head[place] == magic


def rooted(
    path: Path, pattern: str, max_member: int, max_total: int
) -> Iterator[tuple[str, re.Match[str], BinaryIO]]:
    """(root, match, file) of the members whose path below some root is matched by all of `pattern`.

    root: the folders before that, each with its slash, "" at the top; match.group("key") is the
    path below it. Bounds, order, file and errors are those of `opened`.
    """
    whole = re.compile(rf"(?P<root>(?:.*/)?)(?P<key>{pattern})", re.DOTALL)
    for name, file in opened(path, lambda name: bool(whole.fullmatch(name)), max_member, max_total):
        match = whole.fullmatch(name)
        assert match is not None
        yield match["root"], match, file


def below_one_root(
    path: Path, pattern: str, max_member: int, max_total: int
) -> Iterator[tuple[re.Match[str], BinaryIO]]:
    """(match, file) as of `rooted`, all below the same root; ArchiveError names the first member
    that lies below another."""
    first: re.Match[str] | None = None
    for root, match, file in rooted(path, pattern, max_member, max_total):
        first = first or match
        if root != first["root"]:
            raise ArchiveError(
                path,
                f" holds {cut(match[0])} and, in another place, {cut(first[0])}: which of the two "
                "copies is meant cannot be told",
            )
        yield match, file


def members(
    path: Path, wanted: Wanted, max_member: int, max_total: int
) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the regular files that are `wanted`, in the order of the archive.

    path: a tar, plain or compressed by gzip whatever its name, or a zip. Names are normalised: no
    leading `./`, single slashes. max_member and max_total bound the bytes of one wanted member and
    of all of them; other members are skipped and not kept.
    Raises ArchiveError, one line naming archive and member, for a member that leaves its folder, is
    a link or a device, comes twice or is too large, and for a damaged or truncated archive.
    """
    for name, file in opened(path, wanted, max_member, max_total):
        yield name, file.read()


def opened(
    path: Path, wanted: Wanted, max_member: int, max_total: int
) -> Iterator[tuple[str, BinaryIO]]:
    """`members`, but with an open file instead of the content, for members too large for memory.
    Each file is valid until the next one is requested."""
    seen: set[str] = set()
    total = 0
    try:
        with path.open("rb") as file:
            for raw_name, size, file_of in _entries(path, file):
                name = _safe_name(path, raw_name)
                if file_of is None or not wanted(name):
                    continue
                total += size
                if name in seen:
                    raise ArchiveError(path, f": {cut(name)} comes twice")
                if size > max_member:
                    raise ArchiveError(
                        path, f": {cut(name)} has {size} bytes, more than {max_member}"
                    )
                if total > max_total:
                    raise ArchiveError(path, f": more than {max_total} bytes up to {cut(name)}")
                seen.add(name)
                with file_of() as content:
                    yield name, cast(BinaryIO, io.BufferedReader(_Told(content, path, name)))
    except ArchiveError:
        raise
    except _DAMAGE as error:
        raise _told(path, error) from error


def gunzip(path: Path, max_bytes: int) -> bytes:
    """The content of a file compressed by gzip; ArchiveError for damage, or beyond `max_bytes`."""
    try:
        with gzip.open(path, "rb") as file:
            content = file.read(max_bytes + 1)
    except _DAMAGE as error:
        raise _told(path, error) from error
    if len(content) > max_bytes:
        raise ArchiveError(path, f" holds more than {max_bytes} bytes")
    return content


_Entry = tuple[str, int, Callable[[], BinaryIO] | None]  # name, bytes, its file; None: a folder


def _entries(path: Path, file: BinaryIO) -> Iterator[_Entry]:
    magic = file.read(4)
    file.seek(0)
    if magic.startswith(b"PK"):
        yield from _zip_entries(path, file)
    elif magic.startswith(b"\x1f\x8b"):
        with gzip.GzipFile(fileobj=file, mode="rb") as plain:
            yield from _tar_entries(path, cast(BinaryIO, plain))
            while plain.read(_BLOCK):  # to the end, where gzip keeps its own checksum
                pass
    else:
        yield from _tar_entries(path, file)


def _tar_entries(path: Path, file: BinaryIO) -> Iterator[_Entry]:
    with tarfile.open(fileobj=file, mode="r|", bufsize=_BUFFER, tarinfo=_Header) as archive:
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # or it keeps millions of headers
            if member.isdir():
                yield member.name, 0, None
                continue
            if not member.isreg() or member.issparse():
                raise ArchiveError(
                    path, f": {cut(member.name)} is {_kind(member)}, not a plain file"
                )

            def content(member: tarfile.TarInfo = member) -> BinaryIO:
                return cast(BinaryIO, archive.extractfile(member))

            yield member.name, member.size, content


class _Header(tarfile.TarInfo):
    """A tar header that may not announce more of itself than a name or two needs."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        header = super().frombuf(buf, encoding, errors)
        if header.type in _EXTENDED and header.size > _HEADER_BYTES:
            raise tarfile.ReadError(f"an extended header of {header.size} bytes")
        return header


def _zip_entries(path: Path, file: BinaryIO) -> Iterator[_Entry]:
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            mode = member.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ArchiveError(
                    path, f": {cut(member.filename)} is a link or a device, not a plain file"
                )
            if member.is_dir():
                yield member.filename, 0, None
                continue

            def content(member: zipfile.ZipInfo = member) -> BinaryIO:
                return cast(BinaryIO, archive.open(member))

            yield member.filename, member.file_size, content


def _safe_name(path: Path, name: str) -> str:
    """`name` in its normal form; ArchiveError if it would lead out of its folder."""
    slashed = name.replace("\\", "/")
    drive = slashed[1:2] == ":"
    parts = [part for part in slashed.split("/") if part not in ("", ".")]
    if slashed.startswith("/") or drive or ".." in parts or "\0" in name:
        raise ArchiveError(path, f": {shown(name)} leads out of the archive's folder")
    return "/".join(parts)


def _kind(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return f"a link to {cut(member.linkname)}"
    return "a device" if member.isdev() else "of an unknown kind"


class _Told(io.RawIOBase):
    """A member's content, whose damage is told in one line that names it."""

    def __init__(self, content: BinaryIO, path: Path, name: str) -> None:
        self._content, self._path, self._name = content, path, name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            found = self._content.read(len(buffer))
        except _DAMAGE as error:
            raise _told(self._path, error, self._name) from error
        buffer[: len(found)] = found
        return len(found)


def _told(path: Path, error: Exception, name: str = "") -> ArchiveError:
    at = f", at {cut(name)}" if name else ""
    if isinstance(error, FileNotFoundError):
        return ArchiveError(path, " is not here")
    # (zipfile seeks to wherever a broken directory points, which is an invalid argument)
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        return ArchiveError(path, f" cannot be read{at}: {error.strerror}")
    what = cut(str(error)) or type(error).__name__
    return ArchiveError(path, f" is damaged, cut off or no archive{at}: {what}", damaged=True)
