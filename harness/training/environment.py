"""What `HARNESS_*` say of how a trial runs, read without torch, so that a driver can check it."""

from __future__ import annotations

import os
import re

from harness.inputs import shown

MOST_THREADS = 4096  # of one process; systems refuse more, and some end it


def device_wish() -> str | None:
    """`HARNESS_DEVICE`: `cpu`, `cuda` or `cuda:N`; None where it is unset or empty.

    Raises:
        ValueError: it names anything else.
    """
    name = os.environ.get("HARNESS_DEVICE") or None
    if name is not None and not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ValueError(f"HARNESS_DEVICE is {shown(name)}; use cpu or cuda")
    return name


def threads_wish() -> int | None:
    """`HARNESS_THREADS`, a whole number from 1; None where it is unset.

    Raises:
        ValueError: it is anything else.
    """
    text = os.environ.get("HARNESS_THREADS")
    if text is None:
        return None
    few_digits = text.isascii() and text.isdigit() and len(text) < 20
    if not few_digits or not 1 <= int(text) <= MOST_THREADS:
        raise ValueError(
            f"HARNESS_THREADS must be a whole number from 1, not {shown(text)}, "
            f"and at most {MOST_THREADS}"
        )
    return int(text)


def checkpoint_seconds() -> float:
    """`HARNESS_CHECKPOINT_SECONDS`, default 60.

    Raises:
        ValueError: it is no number of seconds.
    """
    text = os.environ.get("HARNESS_CHECKPOINT_SECONDS", "60")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds < float("inf"):
        raise ValueError(
            f"HARNESS_CHECKPOINT_SECONDS must be a number of seconds, not {shown(text)}"
        )
    return seconds
