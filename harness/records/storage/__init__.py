"""Where a store's objects lie: a folder or a bucket, behind one interface."""

from __future__ import annotations

from pathlib import Path

from harness.tools.inputs import is_address

from .bucket import SCHEMES, Bucket
from .folder import Folder
from .interface import Entry, Storage, Stored


def storage_at(given: Path | str) -> Storage:
    """The storage at a path or an address. Touches nothing.

    Raises:
        ValueError: an address of an unknown kind.
    """
    if isinstance(given, str) and is_address(given):
        return Bucket(given)
    return Folder(Path(given))


__all__ = ["SCHEMES", "Bucket", "Entry", "Folder", "Storage", "Stored", "storage_at"]
