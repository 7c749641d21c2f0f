"""A second raylet on this machine, as `ray start` makes one."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time

import psutil

from tests.cli.test_process import PATHS

LONG_ENOUGH = 120  # seconds until it runs, on a machine with other work


def environment_of(head, **variables):
    """The variables of a process that joins the cluster of the fixture `head`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HARNESS_")}
    return {**kept, **head.variables, "PYTHONPATH": PATHS, **variables}


@contextlib.contextmanager
def raylet(head, folder, before=(), **variables):
    """Another raylet, at 127.0.0.2, started in this folder by the words of `before`; the process of
    `ray start --block`."""
    start = ["--address", head.address, "--node-ip-address", "127.0.0.2", "--num-cpus", "1"]
    start += ["--object-store-memory", "80000000", "--block"]
    log = folder / "raylet.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [*before, sys.executable, "-m", "ray.scripts.scripts", "start", *start],
            cwd=folder,
            env=environment_of(head, **variables),
            stdout=stream,
            stderr=stream,
        )
    try:
        deadline = time.monotonic() + LONG_ENOUGH
        while "Ray runtime started" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield process
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            for one in [*psutil.Process(process.pid).children(recursive=True), process]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
        process.wait()
