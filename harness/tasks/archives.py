"""Reading archives in one pass, without writing anything to disk.

Nothing is extracted, so no archive can write outside its folder; one that tries to (absolute
paths, `..`, links, devices) is refused all the same, since it isn't what it claims to be.
"""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

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
# What the readers raise for bits gone wrong.
_DAMAGE = (
    EOFError,
    OSError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
    UnicodeError,
)


def members(
    path: Path, wanted: Wanted, max_member: int, max_total: int
) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the regular files that are `wanted`, in the order of the archive.

    path: a tar, plain or compressed by gzip whatever its name, or a zip. Names are normalised: no
    leading `./`, single slashes. max_member and max_total bound the bytes of one wanted member and
    of all of them; what isn't wanted is passed over without being kept.
    Raises ValueError, one line naming archive and member, for a member that leaves its folder, is
    a link or a device, comes twice or is too large, and for a damaged or truncated archive.
    """
    for name, file in opened(path, wanted, max_member, max_total):
        yield name, file.read()


def opened(
    path: Path, wanted: Wanted, max_member: int, max_total: int
) -> Iterator[tuple[str, BinaryIO]]:
    """`members`, with a file to read from in place of the content, for members too large for
    memory. Each file is good until the next one is asked for."""
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
                    raise ValueError(f"{path}: {name} comes twice")
                if size > max_member:
                    raise ValueError(f"{path}: {name} has {size} bytes, more than {max_member}")
                if total > max_total:
                    raise ValueError(f"{path}: more than {max_total} bytes up to {name}")
                seen.add(name)
                with file_of() as content:
                    yield name, cast(BinaryIO, io.BufferedReader(_Told(content, path, name)))
    except _DAMAGE as error:
        raise ValueError(_damage(path, error)) from error


def gunzip(path: Path, max_bytes: int) -> bytes:
    """The content of a file compressed by gzip; ValueError for damage, or beyond `max_bytes`."""
    try:
        with gzip.open(path, "rb") as file:
            content = file.read(max_bytes + 1)
    except _DAMAGE as error:
        raise ValueError(_damage(path, error)) from error
    if len(content) > max_bytes:
        raise ValueError(f"{path} holds more than {max_bytes} bytes")
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
                raise ValueError(f"{path}: {member.name} is {_kind(member)}, not a plain file")

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
                raise ValueError(
                    f"{path}: {member.filename} is a link or a device, not a plain file"
                )
            if member.is_dir():
                yield member.filename, 0, None
                continue

            def content(member: zipfile.ZipInfo = member) -> BinaryIO:
                return cast(BinaryIO, archive.open(member))

            yield member.filename, member.file_size, content


def _safe_name(path: Path, name: str) -> str:
    """`name` in its normal form; ValueError where it would lead out of its folder."""
    slashed = name.replace("\\", "/")
    drive = slashed[1:2] == ":"
    parts = [part for part in slashed.split("/") if part not in ("", ".")]
    if slashed.startswith("/") or drive or ".." in parts or "\0" in name:
        raise ValueError(f"{path}: {name!r} leads out of the archive's folder")
    return "/".join(parts)


def _kind(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return f"a link to {member.linkname}"
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
            raise ValueError(_damage(self._path, error, self._name)) from error
        buffer[: len(found)] = found
        return len(found)


def _damage(path: Path, error: BaseException, name: str = "") -> str:
    if isinstance(error, FileNotFoundError):
        return f"{path} is not here"
    what = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"{path} is damaged, cut off or no archive{f', at {name}' if name else ''}: {what}"
