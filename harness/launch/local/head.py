"""The only node of our own Ray, without the parts that a launch does not need.

`ray.init` would also start a dashboard, an autoscaler monitor and a log monitor, each a Python
process. It gives the node 30 seconds, however busy the machine is, and waits for processes that
have long died. So this is Ray's own node class with a few steps replaced. The class is private to
Ray: if another version differs, `own_ray` falls back to `ray.init`.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ray._private import node
from ray._private.parameter import RayParams

from ..ray_errors import last_words

LOOK_EVERY = 0.1  # seconds
ANSWER = 5.0  # seconds that one question may take
LAST_BYTES = 65536  # of a log, searched for the reason of a death


class Head(node.Node):
    """A node in a folder of its own. `start` starts it; `kill_all_processes` ends it."""

    def __init__(self, cpus: int, folder: str, seconds: float, object_store_bytes: int):
        # `kill_all_processes` needs it even if the node never started.
        self.all_processes: dict[str, Any] = {}
        self.cpus, self.folder, self.seconds = cpus, folder, seconds
        self.object_store_bytes = object_store_bytes

    def start(self) -> None:
        """Start its processes and wait until they answer.

        Raises:
            ValueError: one of them died, or they did not answer in time.
            Exception: whatever else keeps Ray from starting.
        """
        self.deadline = time.monotonic() + self.seconds
        parameters = RayParams(
            num_cpus=self.cpus,
            object_store_memory=self.object_store_bytes,
            temp_dir=self.folder,  # Ray makes this folder accessible to everybody
            include_dashboard=False,
            include_log_monitor=False,  # type: ignore[arg-type]
            no_monitor=True,
        )
        with self._patient_with_ports():
            super().__init__(parameters, head=True, shutdown_at_exit=False, spawn_reaper=True)

    def start_api_server(self, **_: Any) -> None:
        """Do nothing: the server is only for the dashboard."""

    def start_gcs_server(self) -> None:
        """Start it and check that it can be reached; Ray would try for a quarter of an hour."""
        super().start_gcs_server()
        self._await(self._reach)

    def start_ray_processes(self) -> None:
        """Start them, and wait until the node is registered, at most until the deadline."""
        super().start_ray_processes()
        self._await(self._ask)

    @contextlib.contextmanager
    def _patient_with_ports(self) -> Iterator[None]:
        """Wait for ports in short steps; Ray's one long wait ignores signals and a dead process."""
        original = getattr(node, "wait_for_persisted_port", None)
        if original is None:  # an older Ray, which chooses ports itself
            yield
            return

        def wait(*place: Any, timeout_ms: int) -> int:
            return self._await(lambda: original(*place, timeout_ms=int(1000 * LOOK_EVERY)))

        node.wait_for_persisted_port = wait
        try:
            yield
        finally:
            node.wait_for_persisted_port = original

    def _reach(self) -> None:
        host, _, port = self.gcs_address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER).close()
        except (ConnectionRefusedError, TimeoutError) as error:
            raise RuntimeError from error
        except OSError as error:
            raise OSError(error.errno, f"cannot reach itself, {host}: {error.strerror}") from None

    def _ask(self) -> None:
        known = self.get_gcs_client().get_all_node_info(timeout=ANSWER)
        if self._node_id not in {one.hex() for one in known}:
            raise RuntimeError

    def _await(self, ask: Callable[[], Any]) -> Any:
        """The answer of `ask`, which raises RuntimeError as long as there is none."""
        while True:
            try:
                return ask()
            except RuntimeError:
                self._check()
            time.sleep(LOOK_EVERY)

    def _check(self) -> None:
        for kind, processes in self.all_processes.items():
            code = processes[0].process.poll()
            if code is not None:
                said = self._last_words(kind)
                raise ValueError(f"its {kind} ended with code {code}{said and f' ({said})'}")
        if time.monotonic() > self.deadline:
            raise ValueError(
                f"it was not up after {self.seconds:g} s; HARNESS_RAY_START_SECONDS may allow more"
            )

    def _last_words(self, kind: str) -> str:
        files = sorted(Path(self._logs_dir).glob(f"{kind}*"))
        return last_words(
            "\n".join(file.read_bytes()[-LAST_BYTES:].decode(errors="replace") for file in files)
        )


__all__ = ["Head"]
