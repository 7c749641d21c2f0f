"""The record of an archive: NAME.sha256 next to it in DATA_DIR/downloads.

It holds the SHA-256 and the name, then `unchecked` if a known checksum was waived, and `downloaded`
if we downloaded the file.
"""

from __future__ import annotations

from pathlib import Path

from harness.tools.inputs import read_bounded

UNCHECKED, DOWNLOADED = "unchecked", "downloaded"


def record_path(name: str, data_dir: Path) -> Path:
    """The path of an archive's record."""
    return data_dir / "downloads" / f"{name}.sha256"


def read_record(name: str, data_dir: Path) -> list[str]:
    """The words of an archive's record, its SHA-256 first; [] if there is none."""
    try:
        return read_bounded(record_path(name, data_dir), 1 << 16).decode(errors="replace").split()
    except FileNotFoundError:
        return []


def recorded_sha256(name: str, data_dir: Path) -> str | None:
    """The SHA-256 recorded when an archive arrived; None if there is no record."""
    words = read_record(name, data_dir)
    return words[0] if words else None
