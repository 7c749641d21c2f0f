"""SHA-256 of a trial's files, as stored in its `result.json`.

The result also holds, under its own name, the digest of its own canonical content. Old results
have no checksums, and none are required of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

KEY = "checksums"
RESULT = "result.json"
PLACE = "epoch"  # of a result whose files lie in `epochs/N`; others lie beside it
STATUSES = ("completed", "diverged", "failed")
_BEFORE = {"status", "message", "record"}  # all keys of results written before checksums


def digest(*parts: bytes | bytearray | memoryview) -> str:
    """SHA-256 of the concatenated bytes, in hex."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()


def seal(result: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
    """The result with the checksums of these files and of itself."""
    return {**result, KEY: {**files, RESULT: _own(result, files)}}


def check(result: Mapping[str, Any], trial_id: str) -> dict[str, str]:
    """The checksums in a result, by file name; empty for an old result without any.

    Raises:
        ValueError: this is not a result of that trial, or it has changed since it was written.
    """
    sums = result.get(KEY)
    if sums is not None:
        sums = dict(sums) if _are_sums(sums) else {}
        plain = {key: value for key, value in result.items() if key != KEY}
        if sums.pop(RESULT, None) != _own(plain, sums):
            raise ValueError("it is not as it was written: its checksum differs")
    elif strange := sorted(set(result) - _BEFORE):
        raise ValueError(f"it has no checksums, but {', '.join(strange)}")
    if result.get("status") not in STATUSES:
        raise ValueError("it does not say how the trial ended")
    record = result.get("record")
    if not isinstance(record, Mapping) or record.get("trial_id") != trial_id:
        raise ValueError("it has no record of this trial")
    return sums or {}


def _are_sums(sums: object) -> bool:
    return isinstance(sums, dict) and all(isinstance(value, str) for value in sums.values())


def _own(result: Mapping[str, Any], files: Mapping[str, str]) -> str:
    content = {**result, KEY: dict(files)}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return digest(text.encode())


__all__ = ["KEY", "PLACE", "RESULT", "check", "digest", "seal"]
