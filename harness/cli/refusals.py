"""Refusals of the command line: one line on standard error."""

from __future__ import annotations

import os
from collections.abc import Sequence

from harness.tools import notes
from harness.tools.inputs import cut, os_reason, shown
from harness.tools.redact import redacted

LONGEST_LINE, LONGEST_USAGE = 2_000, 300


def plain(error: Exception) -> str | None:
    """One line for what the user can fix; None for a bug of ours, which keeps its traceback."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        from harness.suite import explain

        return explain(error)
    if hasattr(error, "format_message"):  # click's usage errors, which repeat what was typed
        return cut(error.format_message(), LONGEST_USAGE)
    if isinstance(error, FileNotFoundError) and error.filename is None and _folder_is_gone():
        return "the working directory is gone: go to one that exists"
    if isinstance(error, OSError):
        return os_reason(error)
    if isinstance(error, MemoryError):
        return f"out of memory: {str(error) or 'this needs more than there is'}"
    if isinstance(error, ValueError) or type(error).__name__ == "Busy":
        return str(error)
    return None


def _folder_is_gone() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def check_folder() -> None:
    """Refuse a working directory that is gone: torch's libraries end a process that has none."""
    os.getcwd()


def unusable(arguments: Sequence[str]) -> str | None:
    """Why a command line cannot be recorded, or None if it can."""
    for number, argument in enumerate(arguments, 1):
        if "\0" in argument:
            return f"argument {number} holds a NUL character: {shown(argument)}"
        try:
            argument.encode()
        except UnicodeEncodeError:
            said = "is not UTF-8 text, or the locale is none of UTF-8"
            return f"argument {number} {said}: {shown(argument)}"
    return None


def say(message: str) -> None:
    """Print the message as one line on standard error, without secrets."""
    notes.say(cut(redacted(message), LONGEST_LINE))


__all__ = ["check_folder", "plain", "say", "unusable"]
