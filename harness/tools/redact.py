"""Secrets in what people type: kept out of whatever we keep or show.

A password stands in a URL (`postgresql://me:PASSWORD@host`, `?password=...`), and URLs stand in
commands and in the messages of other people's libraries.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

HIDDEN = "***"

# Up to the last `@`, since an `@` of the password itself is often not escaped.
_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@]*):.*@", re.IGNORECASE | re.DOTALL)
_TOKEN = re.compile(r"(\bhttps?://)[^\s/@]+@", re.IGNORECASE)  # services take a token as user
_NAMES = "pass|pwd|token|secret|key|credential|signature|sig"
_QUERY = re.compile(rf"([?&;][\w.-]*(?:{_NAMES})[\w.-]*=)[^&\s]*", re.IGNORECASE)


def redacted(text: str, secrets: Iterable[str | None] = ()) -> str:
    """A word of a command, a URL, or one line, with `***` in the place of what is secret in it.

    `secrets` are known ones, which may stand in the text anywhere, escaped or not.
    """
    text = _PASSWORD.sub(rf"\1:{HIDDEN}@", text)
    text = _TOKEN.sub(rf"\1{HIDDEN}@", text)
    text = _QUERY.sub(rf"\1{HIDDEN}", text)
    for secret in filter(None, secrets):
        for spelled in sorted({secret, quote(secret, safe=""), quote_plus(secret)}, key=len):
            text = text.replace(spelled, HIDDEN)
    return text


def redacted_command(words: Iterable[str]) -> str:
    """A command line as a shell takes it, its secrets left out."""
    return shlex.join(redacted(word) for word in words)


def going_on(command: str) -> str:
    """How to go on with a redacted command, and how to give what is left out of it."""
    said = f"Go on with: {command}"
    if HIDDEN not in command:
        return said
    return (
        f"{said}\n({HIDDEN} stands for a password, which is kept nowhere: "
        "give it again, or by PGPASSWORD or ~/.pgpass)"
    )
