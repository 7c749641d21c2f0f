"""What is noted of an archive when it comes: NAME.sha256 beside it in DATA_DIR/downloads.

Its SHA-256 and its name, then `unchecked` where a known checksum was waived, and `downloaded` where
we got it ourselves.
"""

from __future__ import annotations

from pathlib import Path

from harness.tools.inputs import read_bounded

UNCHECKED, DOWNLOADED = "unchecked", "downloaded"


def record_path(name: str, data_dir: Path) -> Path:
    """Where an archive's record lies."""
    return data_dir / "downloads" / f"{name}.sha256"


def read_record(name: str, data_dir: Path) -> list[str]:
    """The words of an archive's record, its SHA-256 first; [] where there is none."""
    try:
        return read_bounded(record_path(name, data_dir), 1 << 16).decode(errors="replace").split()
    except FileNotFoundError:
        return []


def recorded_sha256(name: str, data_dir: Path) -> str | None:
    """The SHA-256 recorded for an archive when it came; None where there is no record."""
    words = read_record(name, data_dir)
    return words[0] if words else None
