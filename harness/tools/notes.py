"""Notes on standard error, if anybody still reads it."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
from collections.abc import Iterator

SOON = 1.0  # seconds of waiting that need no note


def say(text: str) -> None:
    """Print a line, if somebody can still read it."""
    line = f"harness: {text}"
    try:
        if sys.stderr is not None and sys.stderr.closed:  # by a suite, say
            os.write(2, f"{line}\n".encode(errors="backslashreplace"))
        elif sys.stderr is not None:
            print(line, file=sys.stderr, flush=True)
    except OSError:
        mute_what_is_closed()


@contextlib.contextmanager
def waiting(what: str, soon: float = SOON) -> Iterator[None]:
    """Print what the block waits for, unless it is over within `soon` seconds."""
    timer = threading.Timer(soon, say, [f"waiting: {what}"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def mute_what_is_closed() -> None:
    """Redirect standard output and error to nowhere if nobody can read them any more.

    Otherwise every later write would fail (EIO on a terminal, EPIPE on a pipe), in the middle of
    cleaning up.
    """
    for descriptor in (1, 2):
        if _is_closed(descriptor):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


def _is_closed(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, 0)
    try:
        return any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))
    except OSError:
        return False


__all__ = ["mute_what_is_closed", "say", "waiting"]
