"""`--keep`: when the head of the cluster is lost, wait for a new one and run the command again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import NoReturn

from harness.tools.notes import say

from .address import check_address

LOOK_EVERY = 5.0  # seconds between two looks for a head


def go_on_when_back(address: str) -> NoReturn:
    """Wait until a cluster with nodes answers at the address, and start this command anew, which
    resumes from the store. Ctrl-C ends the wait.

    Another process takes this one's place at once: when the new head answers what Ray's threads in
    this one have asked the old head, they end it.
    """
    sys.stdout.flush()
    _become("harness.launch.keep", address, *sys.argv[1:])


def wait(address: str) -> None:
    """Return once a cluster with nodes that can run trials answers at the address."""
    say(f"waiting for a new head at {address}; Ctrl-C ends that")
    while not (_answers(address) and _has_nodes(address)):
        time.sleep(LOOK_EVERY)
    say(f"the cluster at {address} answers again")


def main(address: str, *arguments: str) -> NoReturn:
    """Wait, then become `harness` with these arguments."""
    try:
        wait(address)
    except KeyboardInterrupt:
        sys.exit(130)
    _become("harness", *arguments)


def _become(module: str, *arguments: str) -> NoReturn:
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


def _answers(address: str) -> bool:
    try:
        check_address(address)
    except ValueError:
        return False
    return True


def _has_nodes(address: str) -> bool:
    """Whether any node has joined that may run trials."""
    doctor = [sys.executable, "-m", "harness", "doctor", "--address", address]
    done = subprocess.run(doctor, capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout.startswith("node ")


__all__ = ["go_on_when_back", "main", "wait"]

if __name__ == "__main__":
    main(*sys.argv[1:])
