"""Archives in DATA_DIR/downloads: taken as they are, or downloaded and checked; shared by all.

NAME          the archive, whole
NAME.sha256   its checksum, recorded when it came, and `unchecked` where a known one was waived
NAME.part     the beginning of a download that was cut off; the next one goes on from there
NAME.lock     held by the process that looks after NAME, while others wait
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from harness.tasks.builder import UNCHECKED, record_path
from harness.tasks.sources import SOURCES, Source
from harness.tasks.transfer import Transfer

_BLOCK = 1 << 20
_QUIET_WAIT = 2.0  # seconds for the lock, before a word is said


class UnavailableError(ValueError):
    """An archive that is not here and that no mirror gave."""


def fetch(name: str, data_dir: Path) -> Path:
    """The archive `name`, which is there and checked when this returns.

    Taken from DATA_DIR/downloads where it is, else downloaded: from HARNESS_DATA_MIRROR (a base
    URL, BASE/NAME), then from the source's mirrors in turn. Checked against the known checksum,
    unless HARNESS_DATA_UNCHECKED=1 (for mirrors that packed the files anew), and against that
    recorded when the file came. One process downloads while others, on other nodes too, wait.
    Raises ValueError, one line that says which file is missing or wrong, why, and what to do.
    """
    from filelock import FileLock, Timeout

    source = SOURCES.get(name)
    if source is None:
        raise ValueError(f"no archive {name!r} is known; there are {', '.join(sorted(SOURCES))}")
    path = downloads(data_dir) / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f"{name}.lock"), mode=0o666)
        try:
            held = lock.acquire(timeout=_QUIET_WAIT)
        except Timeout:
            print(f"{name}: another process is fetching it; waiting", file=sys.stderr)
            held = lock.acquire()
        with held:
            return _fetched(source, path, data_dir)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error}") from error


def downloads(data_dir: Path) -> Path:
    """The folder of archives; files may be put there by hand."""
    return data_dir / "downloads"


def _fetched(source: Source, path: Path, data_dir: Path) -> Path:
    """`fetch` with the lock held."""
    if not path.is_file():
        _download(source, path)
    known = source.known
    sha256, md5 = _hashes(path, with_md5=known is not None and known.startswith("md5:"))
    right = known in (None, f"sha256:{sha256}", f"md5:{md5}")
    if not right and not waived():
        found = f"md5:{md5}" if str(known).startswith("md5:") else f"sha256:{sha256}"
        raise ValueError(
            f"{path} is not the right file: expected {known}, found {found}; remove it to have it "
            "fetched again"
        )
    if not right:
        print(f"{source.name}: its known checksum is waived", file=sys.stderr)
    record = record_path(source.name, data_dir)
    recorded = record.read_text(encoding="utf-8").split()[:1] if record.is_file() else []
    if recorded and recorded != [sha256]:
        raise ValueError(
            f"{path} is not what it was: its SHA-256 was {recorded[0]} when it came and is "
            f"{sha256} now; remove it to have it fetched again, or {record.name} to take it as new"
        )
    if not recorded:
        temporary = record.with_name(f"{record.name}.{os.getpid()}.tmp")
        note = "" if right else f"  {UNCHECKED}"
        temporary.write_text(f"{sha256}  {source.name}{note}\n", encoding="utf-8")
        temporary.replace(record)
    return path


def waived() -> bool:
    """Whether the user waives known checksums. Raises ValueError for a word that says nothing."""
    asked = os.environ.get("HARNESS_DATA_UNCHECKED") or "0"
    if asked not in ("0", "1"):
        raise ValueError(f"HARNESS_DATA_UNCHECKED must be 0 or 1, not {asked!r}")
    return asked == "1"


def _download(source: Source, path: Path) -> None:
    """Put the file at `path` from the first mirror that has it; ValueError says why none had."""
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")  # what it has to say is said here
    known = None if waived() else source.known
    reasons = []
    for url in _mirrors(source):
        transfer = Transfer(path.with_name(f"{path.name}.part"), source.max_bytes)
        try:
            pooch.retrieve(url, known, path.name, path.parent, downloader=transfer)
            return
        except (ValueError, requests.RequestException) as error:
            reasons.append(f"{urlsplit(url).hostname}: {_reason(error)}")
    raise UnavailableError(
        f"{source.name} is not here and could not be downloaded ({'; '.join(reasons)}): "
        f"put it into {path.parent} ({source.help})"
    )


def _mirrors(source: Source) -> list[str]:
    own = os.environ.get("HARNESS_DATA_MIRROR")
    if not own:
        return list(source.urls)
    if urlsplit(own).scheme not in ("http", "https") or not urlsplit(own).hostname:
        raise ValueError(f"HARNESS_DATA_MIRROR must be an http or https address; got {own!r}")
    return [f"{own.rstrip('/')}/{source.name}", *source.urls]


def _reason(error: Exception) -> str:
    """Why a mirror did not do, in a few words without addresses."""
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
    return " ".join(str(error).split())


def _hashes(path: Path, with_md5: bool) -> tuple[str, str]:
    """SHA-256 and, where it is wanted, MD5 of a file, hex, in one pass."""
    states = [hashlib.sha256(), hashlib.md5(usedforsecurity=False)][: 1 + with_md5]
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            for state in states:
                state.update(block)
    return states[0].hexdigest(), states[-1].hexdigest() if with_md5 else ""
