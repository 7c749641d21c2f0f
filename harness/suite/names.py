"""Valid names: of a suite, which names a folder; of a row, which starts a line of a table."""

from __future__ import annotations

import unicodedata

from harness.tools.inputs import LONGEST, is_plain_name, shown

_BREAKING = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control, lone surrogate, ends of lines
LONGEST_TEXT = 10_000


def checked_name(name: str, what: str) -> str:
    """The name of `what`, if any machine can name a folder so.

    Raises:
        ValueError: it is not a valid name.
    """
    if not is_plain_name(name):
        raise ValueError(f"{what}'s name is letters, digits, '_', '.', '-', not {shown(name)}")
    if len(name) > LONGEST:
        raise ValueError(f"{what}'s name has {len(name)} characters: at most {LONGEST}")
    return name


def checked_label(text: str, what: str) -> str:
    """A label, if it fits on a line of a table.

    Raises:
        ValueError: it is blank, too long, or breaks the line.
    """
    if not text.strip():
        raise ValueError(f"{what} {shown(text)} is blank")
    if len(text) > LONGEST:
        raise ValueError(f"{what} {shown(text, 60)} has {len(text)} characters: at most {LONGEST}")
    if any(unicodedata.category(c) in _BREAKING for c in text):
        raise ValueError(f"{what} {shown(text)} holds a line break, tab or other control character")
    return text


def checked_text(text: str, what: str) -> str:
    """A description, of any number of lines.

    Raises:
        ValueError: it is too long, or holds characters that cannot be printed.
    """
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"{what} has {len(text)} characters: at most {LONGEST_TEXT}")
    if any(unicodedata.category(c) in _BREAKING and c not in "\n\r\t" for c in text):
        raise ValueError(f"{what} {shown(text)} holds a control character")
    return text
