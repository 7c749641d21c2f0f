"""One download from one mirror: bounded, resumed where it was cut off, with progress."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import requests

_BLOCK = 1 << 18
_TIMEOUTS = (20, 60)  # seconds to connect, and without a byte
_PATIENCE = 1.0  # seconds before a cut-off transfer goes on


class Transfer:
    """A downloader for `pooch.retrieve`: called with an address and the file to make.

    part: where the bytes gather, and stay when the transfer is cut off; beside it `.from` says
    which address and which version of the file they belong to. max_bytes bounds the whole file.
    """

    def __init__(self, part: Path, max_bytes: int) -> None:
        self._part, self._max_bytes = part, max_bytes
        self._from = part.with_name(f"{part.name}.from")

    def __call__(self, url: str, output_file: str, pooch: Any = None) -> None:
        """Raises ValueError if the server refuses, or the file is too large or keeps being cut off;
        and whatever `requests` raises if there is no connection."""
        while True:
            before = self._have()
            if self._attempt(url):
                break
            if self._have() <= before:
                raise ValueError(f"cut off after {self._have()} bytes, which are kept")
            time.sleep(_PATIENCE)
        os.replace(self._part, output_file)
        self._from.unlink(missing_ok=True)

    def _have(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _attempt(self, url: str) -> bool:
        """Get what is missing; returns whether the file is complete."""
        import requests

        start = self._have() if self._tag(url) is not None else 0
        headers = {"User-Agent": "compressm-harness", "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if tag := self._tag(url):
                headers["If-Range"] = tag
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUTS) as answer:
            if answer.status_code == 416 and start:
                if answer.headers.get("Content-Range") == f"bytes */{start}":
                    return True  # all was here already
                self._discard()
                return self._attempt(url)
            if answer.status_code not in (200, 206):
                raise ValueError(f"HTTP {answer.status_code} {answer.reason}".strip())
            if answer.headers.get("Content-Type", "").startswith("text/html"):
                raise ValueError("sent a page instead of the file; it may ask for a login")
            if answer.status_code == 206:
                _check_range(answer, start)
            else:
                start = 0  # the server sends the whole file, asked for a part or not
            return self._receive(url, answer, start)

    def _receive(self, url: str, answer: requests.Response, start: int) -> bool:
        """Write the body after the first `start` bytes; returns whether the file is complete."""
        import urllib3

        size = answer.headers.get("Content-Length", "")
        total = start + int(size) if size.isdigit() else None
        self._bound(total or 0)
        if not start:
            self._part.unlink(missing_ok=True)  # no old bytes under the new note
        self._note(url, answer)
        progress = Progress(self._part.stem, start, total)
        have, broken = start, False
        with self._part.open("r+b" if start else "wb") as file:
            file.seek(start)
            while True:
                try:
                    # (not iter_content, which unpacks a .gz that a server declares an encoding)
                    block = answer.raw.read(_BLOCK, decode_content=False)
                except (urllib3.exceptions.HTTPError, ConnectionError, TimeoutError):
                    broken = True
                    break
                if not block:
                    break
                have += len(block)
                self._bound(have)
                file.write(block)
                progress.show(have)
            file.flush()
            os.fsync(file.fileno())
        whole = not broken and total in (None, have)
        progress.end(have, "done" if whole else "cut off")
        return whole

    def _bound(self, size: int) -> None:
        if size > self._max_bytes:
            self._discard()
            raise ValueError(f"the file is larger than {self._max_bytes} bytes")

    def _discard(self) -> None:
        self._part.unlink(missing_ok=True)
        self._from.unlink(missing_ok=True)

    def _note(self, url: str, answer: requests.Response) -> None:
        """Record which file the partial download belongs to."""
        tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        weak = tag.startswith("W/")  # not fit for If-Range
        note = {"url": _mark(url), "tag": "" if weak else tag}
        self._from.write_text(json.dumps(note), encoding="utf-8")

    def _tag(self, url: str) -> str | None:
        """The version tag of the file at `url` that the part belongs to ("" if the server gave
        none); None if the part is from another address."""
        try:
            note = json.loads(self._from.read_text(encoding="utf-8"))
            return str(note["tag"]) if note["url"] == _mark(url) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _mark(url: str) -> str:
    """An identifier of an address, without any password in it."""
    return hashlib.sha256(url.encode()).hexdigest()


def _check_range(answer: requests.Response, start: int) -> None:
    """Raises ValueError unless a partial answer begins where the part ends."""
    span = answer.headers.get("Content-Range", "").removeprefix("bytes ")
    if not span.startswith(f"{start}-"):
        raise ValueError(f"sent bytes {span or 'of an unknown range'}, asked for {start}-")


class Progress:
    """Lines on standard error: amount, rate and time left; on a terminal one line, renewed."""

    def __init__(
        self,
        name: str,
        start: int,
        total: int | None,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._start, self._total = name, start, total
        self._stream, self._clock = stream or sys.stderr, clock
        self._live = self._stream.isatty()
        self._every = 1.0 if self._live else 30.0  # seconds
        self._began = self._shown = clock()
        if start:
            self._write(f"{name}: going on after {_mega(start)}\n")

    def show(self, have: int) -> None:
        """Print the progress, unless it was printed just now."""
        now = self._clock()
        if now - self._shown >= self._every:
            self._shown = now
            line = self._line(have, now)
            self._write(f"\r\x1b[K{line}" if self._live else f"{line}\n")

    def end(self, have: int, how: str) -> None:
        seconds = self._clock() - self._began
        wipe = "\r\x1b[K" if self._live else ""
        self._write(f"{wipe}{self._name}: {how}, {_mega(have)} in {_duration(seconds)}\n")

    def _line(self, have: int, now: float) -> str:
        rate = (have - self._start) / max(now - self._began, 1e-9)  # bytes per second
        if self._total is None:
            return f"{self._name}: {_mega(have)}, {_mega(rate)}/s"
        share = have / max(self._total, 1)
        left = _duration((self._total - have) / rate) if rate > 0 else "unknown time"
        return (
            f"{self._name}: {_mega(have)} of {_mega(self._total)} ({share:.0%}), "
            f"{_mega(rate)}/s, {left} left"
        )

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _mega(size: float) -> str:
    return f"{size / 1e6:.1f} MB"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole // 60 % 60:02d} min"
