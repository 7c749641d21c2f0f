"""A worker process: it runs one trial at a time, and answers while the trial runs.

The driver makes this class an actor with two threads: one runs the trial, the other answers `poll`
and `stop`.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.plugins import Source
from harness.tools.cores import usable_cores
from harness.tools.inputs import cut

from .notice import heed_sigterm
from .ray_errors import UNFIT

if TYPE_CHECKING:
    from harness.records.store import Store
    from harness.suite.specs import TrialSpec
    from harness.training.trial import Execution


class TrialWorker:
    """A warm process for trials: torch is imported once, and the tasks' data stay in memory.

    If it cannot start, it returns the reason for every trial. If it raised here, Ray would report
    a dead worker without the reason. With `own_process`, SIGTERM to the process is a `stop`.
    `settings` are variables of the environment that Ray must not see; `code` is the checksum that
    the harness here must have, or it takes no trial.
    """

    def __init__(
        self,
        own_process: bool = False,
        settings: Mapping[str, str] | None = None,
        code: str | None = None,
    ) -> None:
        os.environ.update(settings or {})
        self.told: dict[str, Any] = {}
        self.halt = threading.Event()
        if own_process:
            heed_sigterm(self.halt)
        self.unfit: tuple[str, str] | None = None
        try:
            _check_code(code)
            import harness.training.trial  # noqa: F401  pays for torch before the first trial
            from harness.models.specs import MODELS

            for model in MODELS:
                model.layer_class().warm_up()
        except Exception as error:
            self.unfit = _unfit(error)

    def run(
        self,
        spec: dict[str, Any],
        store_root: str,
        gpus: float,
        node_cpus: dict[str, float],
        fork: tuple[str, int] | None = None,
        keep_at: tuple[int, ...] = (),
        plugins: tuple[Source, ...] = (),
        owner: str | None = None,
        instead_of: str | None = None,
    ) -> tuple[str, str | None]:
        """Run a trial to its end: (status, message). `plugins` new to this process load first;
        their files need not be on this machine. `owner` is to hold the trial's claim; `instead_of`
        held it before, and is known to be lost.

        The status is that of the result, or `refused` (it could not begin), `fault` (this machine
        failed), `busy` (another process runs it, or has taken it over) or `interrupted`. On a CPU
        the trial is exclusive if everything that Ray may place on this node fits its cores.
        """
        if self.unfit is not None:
            return self.unfit
        if self.halt.is_set():
            return "interrupted", None
        from harness.records.lease import Busy
        from harness.records.store import Store
        from harness.suite.bring import receive
        from harness.suite.specs import TrialSpec
        from harness.training.host.faults import described, is_passing
        from harness.training.trial import Execution, Fork, Interrupted

        self.told = {}
        exclusive = gpus >= 1.0 if gpus else _reserved(node_cpus) <= usable_cores()
        execution = Execution(
            progress=self._tell,
            stop=self.halt.is_set,
            exclusive=exclusive,
            device_share=gpus if 0.0 < gpus < 1.0 else 1.0,
            fork=Fork(*fork) if fork else None,
            keep_at=keep_at,
            owner=owner,
            instead_of=instead_of,
        )
        try:
            store = Store.open(store_root, create=False)
            if not store.is_there():
                return (
                    "refused",
                    f"node {os.uname().nodename} does not see the store {store.address}",
                )
            receive(plugins)
            result = self._end(TrialSpec.model_validate_json(_json(spec)), store, execution)
        except Interrupted:
            return "interrupted", None
        except Busy as busy:
            return "busy", str(busy)
        except ValueError as error:
            return "refused", " ".join(str(error).split())
        except Exception as error:
            return ("fault" if is_passing(error) else "refused"), described(error)
        return result["status"], result.get("message")

    def _end(self, spec: TrialSpec, store: Store, execution: Execution) -> dict[str, Any]:
        from harness.training.trial import run_trial

        return run_trial(spec, store, execution)

    def poll(self) -> dict[str, Any]:
        """The trial's last report; empty before the first."""
        return self.told

    def where(self) -> str:
        """The id of this worker's node."""
        import ray

        return ray.get_runtime_context().get_node_id()

    def stop(self) -> None:
        """Let the trial take a checkpoint and stop."""
        self.halt.set()

    def _tell(self, told: dict[str, Any]) -> None:
        self.told = told


def _check_code(wanted: str | None) -> None:
    from .checksum import code

    if wanted is not None and code() != wanted:
        raise ValueError(f"another harness, {code()}, than that of the launch, {wanted}")


def _unfit(error: Exception) -> tuple[str, str]:
    """`fault` if another attempt or node may help, else `refused`; and the reason."""
    status = "fault" if isinstance(error, MemoryError | OSError) else "refused"
    with contextlib.suppress(ImportError):  # torch itself may be what is broken
        from harness.training.host.faults import is_passing

        status = "fault" if is_passing(error) else "refused"
    said = cut(f"{type(error).__name__}: {error}")
    return status, f"{UNFIT} on node {os.uname().nodename}: {said}"


def _reserved(node_cpus: dict[str, float]) -> float:
    """CPUs that Ray may assign on this node; infinite where nothing is said of nodes."""
    if not node_cpus:
        return float("inf")  # and Ray, which might start a cluster of its own, is not asked
    import ray

    return node_cpus.get(ray.get_runtime_context().get_node_id(), float("inf"))


def _json(spec: dict[str, Any]) -> str:
    # Strict validation accepts a list as a tuple only from JSON.
    import json

    return json.dumps(spec, allow_nan=False)
