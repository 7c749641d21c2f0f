"""What `HARNESS_*` say of how a trial runs, read without torch, so that a driver can check it."""

from __future__ import annotations

import os
import re

from harness.inputs import shown

MOST_THREADS = 1024  # what no machine has, torch and OpenMP crash on
MOST_SECONDS = 1_000_000.0  # twelve days


def device_wish() -> str | None:
    """`HARNESS_DEVICE`: `cpu`, `cuda` or `cuda:N`; None where it is unset or empty.

    Raises:
        ValueError: it names anything else.
    """
    name = os.environ.get("HARNESS_DEVICE") or None
    if name is not None and not re.fullmatch(r"cpu|cuda(:[0-9]{1,4})?", name):
        raise ValueError(f"HARNESS_DEVICE is {shown(name)}; use cpu or cuda")
    return name


def threads_wish() -> int | None:
    """`HARNESS_THREADS`, a whole number from 1 to `MOST_THREADS`; None where it is unset.

    Raises:
        ValueError: it is anything else.
    """
    text = os.environ.get("HARNESS_THREADS")
    if text is None:
        return None
    digits = text.isascii() and text.isdigit() and len(text) <= len(str(MOST_THREADS))
    if not digits or not 1 <= int(text) <= MOST_THREADS:
        raise ValueError(
            f"HARNESS_THREADS must be a whole number from 1 to {MOST_THREADS}, not {shown(text)}"
        )
    return int(text)


def checkpoint_seconds() -> float:
    """`HARNESS_CHECKPOINT_SECONDS`, default 60.

    Raises:
        ValueError: it is no number of seconds from 0 to `MOST_SECONDS`.
    """
    return _seconds("HARNESS_CHECKPOINT_SECONDS", 60.0, least=0.0)


def ray_start_seconds() -> float:
    """`HARNESS_RAY_START_SECONDS`, how long an own Ray may take to start; default 180.

    Raises:
        ValueError: it is no number of seconds from 1 to `MOST_SECONDS`.
    """
    return _seconds("HARNESS_RAY_START_SECONDS", 180.0, least=1.0)


def check_environment() -> None:
    """Raise ValueError for the first variable in here that says nothing."""
    for read in (device_wish, threads_wish, checkpoint_seconds, ray_start_seconds):
        read()


def _seconds(name: str, default: float, least: float) -> float:
    text = os.environ.get(name)
    if text is None:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = float("nan")
    if not least <= seconds <= MOST_SECONDS:
        raise ValueError(
            f"{name} must be a number of seconds from {least:g} to {MOST_SECONDS:.0f}, "
            f"not {shown(text)}"
        )
    return seconds
