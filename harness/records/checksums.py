"""SHA-256 of a trial's files, as its `result.json` has them since it was written.

The result vouches for itself too: under its own name stands the digest of its canonical content.
Results from before there were checksums have none, and none is asked of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

KEY = "checksums"
RESULT = "result.json"
STATUSES = ("completed", "diverged", "failed")
_BEFORE = {"status", "message", "record"}  # all that a result without checksums ever held


def digest(*parts: bytes | bytearray | memoryview) -> str:
    """SHA-256 of these bytes, one after the other, in hex."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()


def seal(result: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
    """The result with the checksums of these files and its own."""
    return {**result, KEY: {**files, RESULT: _own(result, files)}}


def check(result: Mapping[str, Any], trial_id: str) -> dict[str, str]:
    """The checksums in a result, by file name; empty for one from before there were any.

    Raises:
        ValueError: this is no result of that trial, or not as it was written.
    """
    sums = result.get(KEY)
    if sums is not None:
        sums = dict(sums) if _are_sums(sums) else {}
        plain = {key: value for key, value in result.items() if key != KEY}
        if sums.pop(RESULT, None) != _own(plain, sums):
            raise ValueError("it is not as it was written: its checksum is another")
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


__all__ = ["KEY", "RESULT", "check", "digest", "seal"]
