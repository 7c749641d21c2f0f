"""Signals that ask to stop: Ctrl-C, SIGTERM, and SIGHUP from a closing terminal.

No torch, so that a driver can use it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

from harness.tools.notes import mute_what_is_closed, say

ECHO = 1.0  # seconds in which further signals count as the same one


class Signals:
    """A signal asks to stop; a second one, `ECHO` seconds later or more, to stop at once.

    Earlier repeats are echoes: `timeout` sends each signal twice, and so do hasty fingers. While
    the flags are watched, a signal only sets them: an exception in the middle of a write or of Ray
    could lose something. Until then there is nothing to lose, and the first signal raises
    KeyboardInterrupt; later ones do not interrupt the cleanup.
    """

    def __init__(self, answer: str = "stopping", abrupt: bool = False) -> None:
        self.asked = False
        self.urgent = False
        self.watched = False
        self.answer: str | None = answer  # said at once; None if the watcher says it
        self.abrupt = abrupt  # whether the second one raises
        self.since = self.asked_at = time.monotonic()

    def install(self) -> None:
        """Handle signals from here on. Only the main thread may; in others this does nothing."""
        if threading.current_thread() is threading.main_thread():
            for number in stop_signals():
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: Any) -> None:
        now = time.monotonic()
        if number == signal.SIGHUP:
            mute_what_is_closed()
        if not self.asked:
            self.asked, self.asked_at = True, now
            if not self.watched:
                raise KeyboardInterrupt
        elif self.watched and now - self.asked_at >= ECHO and not self.urgent:
            self.urgent = True
            if self.abrupt:
                raise KeyboardInterrupt


def stop_signals() -> tuple[signal.Signals, ...]:
    """The three signals, without SIGHUP if it is ignored, as under `nohup`."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return (signal.SIGINT, signal.SIGTERM, *(() if ignored else (signal.SIGHUP,)))


@contextlib.contextmanager
def stoppable(signals: Signals) -> Iterator[Signals]:
    """Handle signals and answer them at once; restore the previous handlers at the end."""
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    before = {number: signal.getsignal(number) for number in stop_signals()}
    signals.install()
    try:
        with _answered(signals):
            yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _answered(signals: Signals) -> Iterator[None]:
    """Answer from a thread: Python's own handlers wait until the main thread is free."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    def listen() -> None:
        said = False
        while number := os.read(read, 1)[0]:
            if number in stop_signals() and signals.answer is not None and not said:
                said = True
                say(signals.answer)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.set_blocking(write, True)
        os.write(write, b"\0")
        thread.join()
        os.close(read)
        os.close(write)


__all__ = ["ECHO", "Signals", "stop_signals", "stoppable"]
