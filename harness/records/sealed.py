"""JSON files with a checksum of their own: a suite's plan, a study's record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.records import schemas
from harness.records.checksums import digest
from harness.records.files import read_json, write_json
from harness.tools.inputs import os_reason, shown

_KEY = "checksum"


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object, with the SHA-256 of its canonical form as one more value."""
    write_json(path, {**content, _KEY: digest(schemas.canonical(content).encode())})


def read_sealed(
    path: Path, keys: Sequence[str], remedy: str, optional: Sequence[str] = ()
) -> dict[str, Any]:
    """The object given to `write_sealed`; it must have these `keys`.

    Old files have no checksum and hold nothing but `keys` and `optional`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged or a different object; the line ends with the `remedy`.
    """
    try:
        content = read_json(path)
        if not isinstance(content, dict):
            raise ValueError(f"{path} is not a JSON object")
        stored = content.pop(_KEY, None)
        if stored not in (None, digest(schemas.canonical(content).encode())):
            raise ValueError(f"{path} is not as it was written: its checksum differs")
        if missing := [key for key in keys if key not in content]:
            raise ValueError(f"{path} has no {missing[0]}")
        if stored is None and (strange := sorted(set(content) - {*keys, *optional})):
            raise ValueError(f"{path} has no checksum, but {shown(strange[0])}")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{os_reason(error)}; {remedy}") from None
    except ValueError as error:
        raise ValueError(f"{error}; {remedy}") from None
    return content


__all__ = ["read_sealed", "write_sealed"]
