"""SIGTERM to a worker's process: the notice that it has to go."""

from __future__ import annotations

import os
import signal
import threading


def heed_sigterm(told: threading.Event) -> None:
    """Set the event on SIGTERM, and live on. Only the main thread may install this; in others it
    does nothing.

    Ray's own handler ends the process. And its main thread waits in C++, where Python's handlers
    are not run: so the signal's number is read from the pipe that the interpreter writes it to.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    def listen() -> None:
        while os.read(read, 1)[0] != signal.SIGTERM:
            pass
        told.set()

    threading.Thread(target=listen, daemon=True).start()


__all__ = ["heed_sigterm"]
