"""Standard output and error: characters that a terminal lacks, and readers that have gone."""

from __future__ import annotations

import codecs
import io
import os
import sys

from harness.cli.refusals import say
from harness.tools.inputs import os_reason

# Characters beyond ASCII in our tables and sentences, with replacements of the same width if any.
_PLAIN = {"±": "+-", "×": "x", "−": "-", "—": "-", "–": "-", "†": "+", "→": ">", "…": "..."}
_HANDLER = "harness.plain"


def prepare() -> None:
    """Replace characters that a stream's encoding lacks, instead of failing on them."""
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
    """The exit code, after all output has been written. A failed write is reported in one line.

    A reader that has left (`harness table | head -1`) is not an error.
    """
    if sys.stdout is None or sys.stdout.closed:
        return code
    try:
        sys.stdout.flush()
        return code
    except OSError as error:
        # Python would try to write the rest of the buffer again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return code or 1
        say(f"standard output: {os_reason(error)}")
        return code or 2


__all__ = ["finish", "prepare"]
