"""Standard output and error: what a terminal cannot show, and a reader that is gone or full."""

from __future__ import annotations

import codecs
import io
import os
import sys

from harness.cli.refusals import say
from harness.tools.inputs import os_reason

# What our tables and sentences have beyond ASCII, in as many characters where that can be.
_PLAIN = {"±": "+-", "×": "x", "−": "-", "—": "-", "–": "-", "†": "+", "→": ">", "…": "..."}
_HANDLER = "harness.plain"


def prepare() -> None:
    """Have whatever a stream's encoding lacks written in other characters, rather than refused."""
    codecs.register_error(_HANDLER, _written_plainly)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def _written_plainly(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    plain = (_PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking)
    return "".join(plain), error.end


def finish(code: int) -> int:
    """The exit code, once all that was printed has been written; a fault of that is one line.

    A reader who has left (`harness table | head -1`) is no fault worth a word.
    """
    if sys.stdout is None or sys.stdout.closed:
        return code
    try:
        sys.stdout.flush()
        return code
    except OSError as error:
        # What is left in the buffer would be tried once more when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return code or 1
        say(f"standard output: {os_reason(error)}")
        return code or 2


__all__ = ["finish", "prepare"]
