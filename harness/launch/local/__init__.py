"""A Ray of our own on this machine, for one launch."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import uuid
from collections.abc import Iterator
from typing import Any

from harness import environment
from harness.tools.cores import usable_cores
from harness.tools.inputs import cut, os_reason
from harness.tools.notes import say

from .folder import MARK, private_folder

# Ray's own variables for the processes that we start. Workers get the environment of their trials,
# so any that Ray starts in advance would stay unused. Ray waits as long as we do.
SETTINGS = {"RAY_prestart_worker_first_driver": "0"}
PATIENCE = {  # units in a second
    "RAY_worker_register_timeout_seconds": 1,
    "RAY_agent_register_timeout_ms": 1000,
}
OBJECT_STORE_BYTES = 100 * 1024**2  # only specs and outcomes go through it
# Raised by a Ray whose private parts differ from those that `head` uses.
UNKNOWN = (ImportError, AttributeError, TypeError)


@contextlib.contextmanager
def own_ray(cpus: int) -> Iterator[Any]:
    """The ray module, connected to a private Ray of our own with at least `cpus` CPUs.

    Leaving the context ends all its processes. If this process dies instead, the keeper ends them.

    Raises:
        ValueError: Ray does not start; one line says why.
    """
    seconds = environment.RAY_START_SECONDS.get()
    folder = private_folder()
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # read when ray is first imported
    if "RAY_AUTH_TOKEN" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN_PATH", str(folder / "token"))
    before = _children()
    heads: list[Any] = []
    up = False
    try:
        try:
            with _settings(str(folder), seconds), _deaf_to_hangups():
                ray = _connected(cpus, str(folder / "ray"), seconds, heads, before)
        except Exception as error:
            raise ValueError(f"Ray does not start on this machine: {_reason(error)}") from error
        up = True
        yield ray
    finally:
        _end(heads, before, gracefully=up)


def _connected(cpus: int, folder: str, seconds: float, heads: list[Any], before: set[Any]) -> Any:
    """Start the node, add it to `heads` at once, and connect to it."""
    logging.getLogger("ray").setLevel(logging.CRITICAL)  # we report its errors in one line
    import ray

    cpus = max(usable_cores(), cpus)
    try:
        from .head import Head

        heads.append(Head(cpus, folder, seconds, OBJECT_STORE_BYTES))
        heads[0].start()
        where = {"address": heads[0].gcs_address}
    except UNKNOWN as error:
        _end(heads, before, gracefully=False)
        heads.clear()
        where = _plainly(cpus, folder)
        said = cut(f"{type(error).__name__}: {error}")
        say(f"Ray {ray.__version__} is started as it starts itself, with its dashboard ({said})")
    ray.init(
        namespace=f"harness-{uuid.uuid4().hex}",
        log_to_driver=False,
        logging_level=logging.ERROR,
        **where,
    )
    return ray


def _plainly(cpus: int, folder: str) -> dict[str, Any]:
    """Arguments of `ray.init` that make it start a node itself."""
    return {
        "address": "local",
        "num_cpus": cpus,
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
        "_temp_dir": folder,
    }


@contextlib.contextmanager
def _settings(folder: str, seconds: float) -> Iterator[None]:
    """The environment of Ray's processes; variables that the user has set are kept."""
    wanted = SETTINGS | {name: str(int(units * seconds)) for name, units in PATIENCE.items()}
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    before = os.environ.get(MARK)
    os.environ.update(added | {MARK: folder})
    try:
        yield
    finally:
        for name in (*added, MARK):
            os.environ.pop(name, None)
        if before is not None:
            os.environ[MARK] = before


@contextlib.contextmanager
def _deaf_to_hangups() -> Iterator[None]:
    """Processes started inside never see SIGHUP, which a closing terminal sends to all processes.

    It would end trials before they can take a checkpoint. Ray itself shields them from Ctrl-C.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return os_reason(error)
    return cut(str(error)) or type(error).__name__


def _children() -> set[Any]:
    import psutil

    return set(psutil.Process().children(recursive=True))


def _end(heads: list[Any], before: set[Any], gracefully: bool) -> None:
    """Disconnect, end the node, and make sure that every process started since has ended."""
    import psutil

    ours = _children() - before
    import ray

    ray.shutdown()
    for head in heads:
        with contextlib.suppress(*UNKNOWN):  # the processes are ended below in any case
            head.kill_all_processes(check_alive=False, allow_graceful=gracefully)
    _, alive = psutil.wait_procs(ours, timeout=3)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=3)


__all__ = ["own_ray"]
