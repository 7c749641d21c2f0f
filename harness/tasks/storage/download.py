"""Archives in DATA_DIR/downloads: taken as they are, or downloaded and checked; shared by all.

NAME          the archive, whole
NAME.sha256   its checksum, recorded when it came; `unchecked` if a known one was waived, and
              `downloaded` if we downloaded it: only such a file may be deleted
NAME.part     the beginning of a download that was cut off; the next one goes on from there
NAME.lock     held by the process that handles NAME, while others wait
.NAME.new     a folder for the time between a download and its place
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
from pathlib import Path
from urllib.parse import urlsplit

from harness import environment
from harness.tasks.storage.archive_records import DOWNLOADED, UNCHECKED, read_record, record_path
from harness.tasks.storage.archives import begins_like_an_archive
from harness.tasks.storage.locks import locked
from harness.tasks.storage.sources import SOURCES, Source
from harness.tasks.storage.transfer import Transfer
from harness.tools.inputs import cut, os_reason

_BLOCK = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")


class UnavailableError(ValueError):
    """An archive that is missing and that no mirror provided."""


def fetch(name: str, data_dir: Path) -> Path:
    """The path of archive `name`, after it has been checked.

    It is taken from DATA_DIR/downloads if it is there, else downloaded: from HARNESS_DATA_MIRROR (a
    base URL, BASE/NAME), then from the source's mirrors. Checked against the known checksum,
    unless HARNESS_DATA_UNCHECKED=1 (for mirrors that packed the files anew), and against that
    recorded when the file came. One process downloads while others, on other nodes too, wait.
    Raises ValueError, one line that says which file is missing or wrong, why, and what to do.
    """
    source = _source(name)
    path = downloads(data_dir) / name
    with locked(path.with_name(f"{name}.lock"), f"{name}: another process is fetching it"):
        try:
            return _fetched(source, path, data_dir)
        except OSError as error:
            raise ValueError(f"cannot fetch {path}: {os_reason(error)}") from error


def verify(name: str, data_dir: Path) -> None:
    """Check an archive that is here as `fetch` does, without writing anything."""
    path = downloads(data_dir) / name
    try:
        _verified(_source(name), path, data_dir)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {os_reason(error)}") from error


def downloads(data_dir: Path) -> Path:
    """The folder of archives; files may be put there by hand."""
    return data_dir / "downloads"


def present(path: Path) -> bool:
    """Whether there is a file; ValueError if something else has its name and would be lost."""
    if path.is_file():
        return True
    if os.path.lexists(path):
        what = "a link that leads to no file" if path.is_symlink() else "no file"
        raise ValueError(f"{path} is {what}: put the file there, or remove what is")
    return False


def _source(name: str) -> Source:
    source = SOURCES.get(name)
    if source is None:
        raise ValueError(f"no archive {name!r} is known; there are {', '.join(sorted(SOURCES))}")
    return source


def _fetched(source: Source, path: Path, data_dir: Path) -> Path:
    """`fetch` with the lock held."""
    come = not present(path)
    if come:
        _download(source, path)
    sha256, right = _verified(source, path, data_dir)
    if not right:
        print(f"{source.name}: its known checksum is waived", file=sys.stderr)
    record = record_path(source.name, data_dir)
    if come or not read_record(source.name, data_dir):
        words = [sha256, source.name]
        words += [UNCHECKED] if not right else []
        words += [DOWNLOADED] if come else []
        temporary = record.with_name(f"{record.name}.{os.getpid()}.tmp")
        try:
            temporary.write_text("  ".join(words) + "\n", encoding="utf-8")
            temporary.replace(record)
        finally:
            temporary.unlink(missing_ok=True)
    return path


def _verified(source: Source, path: Path, data_dir: Path) -> tuple[str, bool]:
    """(SHA-256, whether it is the known one or none is known). Raises ValueError for a wrong file,
    or one that has changed."""
    known = source.known
    sha256, md5 = _hashes(path, with_md5=known is not None and known.startswith("md5:"))
    right = known in (None, f"sha256:{sha256}", f"md5:{md5}")
    if not right and not waived():
        found = f"md5:{md5}" if str(known).startswith("md5:") else f"sha256:{sha256}"
        raise ValueError(
            f"{path} is not the right file: expected {known}, found {found}; remove it to have it "
            "fetched again"
        )
    record = record_path(source.name, data_dir)
    recorded = read_record(source.name, data_dir)[:1]
    if recorded and not _SHA256.fullmatch(recorded[0]):
        raise ValueError(f"{record} is damaged: remove it, and {path.name} is taken as new")
    if recorded and recorded != [sha256]:
        raise ValueError(
            f"{path} is not what it was: its SHA-256 was {recorded[0]} when it came and is "
            f"{sha256} now; remove it to have it fetched again, or {record.name} to take it as new"
        )
    return sha256, right


def waived() -> bool:
    """Whether the user waives known checksums. Raises ValueError for an invalid setting."""
    return environment.DATA_UNCHECKED.get()


def _download(source: Source, path: Path) -> None:
    """Download the file to `path` from the first mirror that has it; else ValueError says why."""
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")  # its messages are repeated here
    known = None if waived() else source.known
    reasons = []
    new = path.with_name(f".{path.name}.new")
    for url in _mirrors(source):
        transfer = Transfer(path.with_name(f"{path.name}.part"), source.max_bytes)
        shutil.rmtree(new, ignore_errors=True)  # left by a process that was killed
        try:
            pooch.retrieve(url, known, path.name, new, downloader=transfer)
            if not begins_like_an_archive(new / path.name):
                raise ValueError("sent no archive: a page, perhaps, or nothing")
            os.replace(new / path.name, path)
            return
        except (ValueError, requests.RequestException) as error:
            reasons.append(f"{urlsplit(url).hostname}: {_reason(error)}")
        finally:
            shutil.rmtree(new, ignore_errors=True)
    raise UnavailableError(
        f"{source.name} is not here and could not be downloaded ({'; '.join(reasons)}): "
        f"put it into {path.parent} ({source.help})"
    )


def _mirrors(source: Source) -> list[str]:
    own = environment.DATA_MIRROR.get()
    if own is None:
        return list(source.urls)
    return [f"{own.rstrip('/')}/{source.name}", *source.urls]


def _reason(error: Exception) -> str:
    """Why a mirror failed, in a few words without addresses."""
    import requests

    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate was not accepted"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy did not let it through"
    if isinstance(error, requests.ConnectionError):
        return "cannot be reached"
    if " hash of downloaded file " in str(error):  # pooch's
        words = str(error).split()
        expected, found = words[words.index("expected") + 1], words[words.index("got") + 1]
        return f"sent a wrong file: expected {expected}, found {found.rstrip('.')}"
    return _public(cut(str(error)))


def _public(text: str) -> str:
    """`text` without names and passwords in its addresses."""
    return re.sub(r"(//)[^/\s]*@", r"\1***@", text)


def _hashes(path: Path, with_md5: bool) -> tuple[str, str]:
    """SHA-256 and, where it is wanted, MD5 of a file, hex, in one pass."""
    states = [hashlib.sha256(), hashlib.md5(usedforsecurity=False)][: 1 + with_md5]
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            for state in states:
                state.update(block)
    return states[0].hexdigest(), states[-1].hexdigest() if with_md5 else ""
