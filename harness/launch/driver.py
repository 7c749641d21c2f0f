"""The launch: connect, check, run all jobs, leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from harness import environment
from harness.records.store import Store
from harness.tasks import data_folder
from harness.tools.cores import usable_cores
from harness.tools.inputs import shown
from harness.training.host.stops import Signals, stoppable

from . import cluster
from .address import check_address
from .autoscaler import Autoscaler, asking
from .checksum import code
from .drain_marks import drain_marks
from .head_watch import watched
from .jobs import Interrupted, Job, Jobs, Outcome
from .node_check import check_places
from .pool import Pool
from .progress import ProgressSink
from .under_way import Launch

MOST_AT_A_TIME = 10_000  # trials


def launch(
    jobs: Jobs,
    store_root: Path | str,
    *,
    address: str = "local",
    concurrency: int | None = None,
    retries: int = 3,
    data_dir: Path | None = None,
    progress: ProgressSink,
    begin: Callable[[], None] = lambda: None,
    pool_type: type[Pool] = Pool,
) -> list[tuple[Job, Outcome]]:
    """Run all jobs on Ray and return how they ended, in the order in which they ended.

    `address` is `local` (a Ray of our own on this machine, for this call), `auto`, HOST:PORT or
    ray://HOST:PORT. `concurrency` limits the trials at a time; by default as many run as fit.
    Machine faults are retried `retries` times. A trial that another launch on the same store runs
    is awaited; it is run here if that launch lets go of it. `begin` is called before the first
    trial starts, once all checks have passed. `pool_type` makes the workers, for benchmarks.

    Raises:
        ValueError: no cluster answers at the address, or a job asks for more than any node has.
        Interrupted: Ctrl-C or SIGTERM. Everything is stopped; trials that ended are kept.
        Lost: as Interrupted, because the head of the cluster no longer answers.
    """
    _check_concurrency(concurrency)
    environment.check()
    first = jobs.ready()
    if not first:
        return []
    cpus, local = max(job.cpus for job in first), address == "local"
    if local and cpus > usable_cores():
        raise ValueError(f"a trial asks for {cpus} CPUs; this machine has {usable_cores()}")
    check_address(address)
    progress.say("starting Ray on this machine" if local else f"connecting to Ray at {address}")
    try:
        with (
            stoppable(Signals()) as signals,
            cluster.connected(address, cpus * (concurrency or 1)) as ray,
            asking(ray, address) as autoscaler,
            watched(partial(_look, ray, address, autoscaler)) as head,
            drain_marks(Store(store_root)) as marks,
        ):
            signals.install()  # Ray has installed its own
            signals.watched, signals.answer = True, None
            workers = _environment(address, data_dir)
            same = None if local else code()  # of nodes that join later, too
            pool = pool_type(
                ray, concurrency, workers, lambda: marks.on(head.nodes), autoscaler, same
            )
            for job in first:
                pool.check(job)
            if not local:
                where = Store(store_root).absolute()
                check_places(ray, marks.on(head.nodes), address, where, first, progress)
            begin()
            run = Launch(pool, jobs, store_root, retries, progress, signals, lambda: head.is_lost)
            return run.all(first)
    except KeyboardInterrupt:  # before anything was running
        raise Interrupted([]) from None
    finally:
        progress.close()


def _check_concurrency(concurrency: int | None) -> None:
    if concurrency is not None and not 1 <= concurrency <= MOST_AT_A_TIME:
        raise ValueError(
            f"concurrency must be from 1 to {MOST_AT_A_TIME}, not {shown(concurrency)}"
        )


def _look(ray: Any, address: str, autoscaler: Autoscaler | None) -> list[cluster.Node]:
    """Tell the head what is wanted, and ask it for its nodes: both may take for ever."""
    if autoscaler is not None:
        autoscaler.tell()
    return cluster.nodes(ray, address)


def _environment(address: str, data_dir: Path | None) -> dict[str, str]:
    """The variables that workers get from this process; on this machine always the data folder."""
    values = environment.forwarded()
    if data_dir is not None or address == "local":
        values[environment.DATA.name] = str(data_folder(data_dir))
    return values
