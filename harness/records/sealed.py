"""JSON files with a checksum of their own: a suite's plan, a study's record."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from typing import Any

from harness.records import schemas
from harness.records.checksums import digest
from harness.records.files import json_bytes
from harness.records.storage import Storage
from harness.tools.inputs import LARGEST_JSON, os_reason, parse_json, shown

_KEY = "checksum"


def write_sealed(storage: Storage, key: str, content: Mapping[str, Any]) -> None:
    """Write a JSON object, with the SHA-256 of its canonical form as one more value."""
    sealed = {**content, _KEY: digest(schemas.canonical(content).encode())}
    storage.write(key, json_bytes(sealed))


def read_sealed(
    storage: Storage, key: str, keys: Sequence[str], remedy: str, optional: Sequence[str] = ()
) -> dict[str, Any]:
    """The object given to `write_sealed`; it must have these `keys`.

    Old files have no checksum and hold nothing but `keys` and `optional`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged or a different object; the line ends with the `remedy`.
    """
    path = storage.place(key)
    try:
        found = storage.read(key, LARGEST_JSON)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        content = parse_json(found.data, path)
        if not isinstance(content, dict):
            raise ValueError(f"{path} is not a JSON object")
        stored = content.pop(_KEY, None)
        if stored not in (None, digest(schemas.canonical(content).encode())):
            raise ValueError(f"{path} is not as it was written: its checksum differs")
        if missing := [one for one in keys if one not in content]:
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
