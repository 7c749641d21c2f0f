"""Keep secrets that users type out of everything we store or show.

Passwords appear in URLs (`postgresql://me:PASSWORD@host`, `?password=...`), and URLs appear in
commands and in the messages of other libraries.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

HIDDEN = "***"

# Up to the last `@`, since an `@` within the password is often not escaped.
_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@]*):.*@", re.IGNORECASE | re.DOTALL)
_TOKEN = re.compile(
    r"(\bhttps?://)[^\s/@]+@", re.IGNORECASE
)  # services accept a token as user name
_NAMES = "pass|pwd|token|secret|key|credential|signature|sig"
_QUERY = re.compile(rf"([?&;][\w.-]*(?:{_NAMES})[\w.-]*=)[^&\s]*", re.IGNORECASE)


def redacted(text: str, secrets: Iterable[str | None] = ()) -> str:
    """A word of a command, a URL, or one line, with every secret replaced by `***`.

    `secrets` are known ones, which may occur anywhere in the text, escaped or not.
    """
    text = _PASSWORD.sub(rf"\1:{HIDDEN}@", text)
    text = _TOKEN.sub(rf"\1{HIDDEN}@", text)
    text = _QUERY.sub(rf"\1{HIDDEN}", text)
    for secret in filter(None, secrets):
        for spelled in sorted({secret, quote(secret, safe=""), quote_plus(secret)}, key=len):
            text = text.replace(spelled, HIDDEN)
    return text


def redacted_command(words: Iterable[str]) -> str:
    """A command line, quoted for a shell, without its secrets."""
    return shlex.join(redacted(word) for word in words)


def going_on(command: str) -> str:
    """How to resume with a redacted command, and how to give the password that it lacks."""
    said = f"Go on with: {command}"
    if HIDDEN not in command:
        return said
    return (
        f"{said}\n({HIDDEN} stands for a password, which is kept nowhere: "
        "give it again, or by PGPASSWORD or ~/.pgpass)"
    )
