"""User input: read within bounds, and quoted within bounds in messages."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

LONGEST = 200  # characters of a user's value that a message quotes
LARGEST_JSON = 64 * 2**20  # bytes; our largest plan or study is a hundredth of it

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")


def is_address(given: object) -> bool:
    """Whether this names a place by scheme, as in `s3://BUCKET`, and is no path."""
    return isinstance(given, str) and _ADDRESS.match(given) is not None


def is_plain_name(name: str) -> bool:
    """Whether a name is safe as a file or folder name on any machine, and contains no path."""
    return _PLAIN_NAME.fullmatch(name) is not None


def shown(value: object, longest: int = LONGEST) -> str:
    """The repr of a value for a message, cut at `longest` characters. The time it takes does not
    grow with the value."""
    if isinstance(value, str | bytes):
        return cut(repr(value[: longest + 1]), longest)
    try:
        return cut(repr(value), longest)
    except (ValueError, RecursionError):  # an int with too many digits, a list that contains itself
        return f"a {type(value).__name__} that cannot be written out"


def cut(text: str, longest: int = LONGEST) -> str:
    """The text in one line of at most `longest` characters; `...` marks what is left out."""
    line = " ".join(text[: 4 * longest].split())
    if len(line) <= longest and len(text) <= 4 * longest:
        return line
    return f"{line[: longest - 3]}..."


def os_reason(error: OSError) -> str:
    """A system error in one line: `PATH: No space left on device`."""
    said = error.strerror or cut(str(error)) or type(error).__name__
    paths = [cut(str(name)) for name in (error.filename, error.filename2) if name is not None]
    return f"{' -> '.join(paths)}: {said}" if paths else said


def user_path(given: object, what: str, folder: Path | None = None) -> Path:
    """The path that a user gives for `what`, absolute and with `~` resolved. A relative path starts
    in `folder`, or else in the working directory.

    Raises:
        ValueError: it is empty, no UTF-8 text, the home of an unknown user, or relative to a
            working directory that is gone.
    """
    name = str(given)
    if not name.strip():
        raise ValueError(f"{what}'s path is empty")
    try:
        sound = b"\0" not in name.encode()
    except UnicodeEncodeError:
        sound = False
    if not sound:
        raise ValueError(f"{what}'s path {shown(name)} is not text in UTF-8 without NUL characters")
    try:
        path = Path(name).expanduser()
        return (path if folder is None else folder / path).absolute()
    except RuntimeError:
        raise ValueError(
            f"{what}'s path {shown(name)}: there is no such user, or no home folder"
        ) from None
    except FileNotFoundError:
        raise ValueError(
            f"the working directory is gone, and so is {what} {cut(name)} below it"
        ) from None


def read_bounded(path: Path, at_most: int = LARGEST_JSON) -> bytes:
    """The bytes of a file, which may be endless.

    Raises:
        ValueError: it holds more than `at_most` bytes.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        data = file.read(at_most + 1)
    if len(data) > at_most:
        raise ValueError(f"{cut(str(path))} is larger than {at_most / 2**20:g} MiB")
    return data


def parse_json(data: bytes, what: object, **hooks: Any) -> Any:
    """JSON in UTF-8, with or without a byte order mark; `what` names it in messages, `hooks` are
    those of `json.loads`.

    Raises:
        ValueError: one line that names `what` and what is wrong in it.
    """
    try:
        return json.loads(data.decode("utf-8-sig"), **hooks)
    except UnicodeDecodeError as error:
        said = f"byte {error.start} is not UTF-8 text"
    except RecursionError:
        said = "it is nested too deeply"
    except ValueError as error:
        said = cut(str(error))
        if said.startswith("Exceeds the limit"):
            said = "a number in it has thousands of digits"
    raise ValueError(f"{cut(str(what))} is not valid JSON: {said}")


__all__ = [
    "LARGEST_JSON",
    "LONGEST",
    "cut",
    "is_plain_name",
    "os_reason",
    "parse_json",
    "read_bounded",
    "shown",
    "user_path",
]
