"""The launch: hand jobs to workers, watch them, retry machine faults, stop cleanly."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import environment
from harness.tasks import data_folder
from harness.tools.inputs import os_reason, shown
from harness.training.host.stops import Signals, stoppable

from . import cluster
from .address import check_address
from .cadence import Cadence
from .elsewhere import Elsewhere
from .head_watch import watched
from .jobs import Interrupted, Job, Jobs, Lost, Outcome
from .node_check import check_nodes
from .pool import Pool, Slot
from .progress import Ended, ProgressSink, Snapshot
from .progress.time_left import running_trial, time_left
from .quarantine import Quarantine
from .worker import usable_cores

TICK = 0.25  # seconds between checks for signals
GRACE = 10.0  # seconds that trials get to take a checkpoint after Ctrl-C
SHOW_EVERY = 0.5  # seconds between snapshots
JOBS_EVERY = 0.5  # seconds between checks for jobs that have become ready
MOST_AT_A_TIME = 10_000  # trials
ELSEWHERE_EVERY = 1.0  # seconds between looks at the trials that other launches run
NODES_EVERY = 5.0  # seconds between checks of which nodes are alive
NODES_WAIT = 300.0  # seconds to wait for a lost node to be replaced


def launch(
    jobs: Jobs,
    store_root: Path,
    *,
    address: str = "local",
    concurrency: int | None = None,
    retries: int = 3,
    data_dir: Path | None = None,
    progress: ProgressSink,
    begin: Callable[[], None] = lambda: None,
) -> list[tuple[Job, Outcome]]:
    """Run all jobs on Ray and return how they ended, in the order in which they ended.

    `address` is `local` (a Ray of our own on this machine, for this call), `auto`, HOST:PORT or
    ray://HOST:PORT. `concurrency` limits the trials at a time; by default as many run as fit.
    Machine faults are retried `retries` times. A trial that another launch on the same store runs
    is awaited; it is run here if that launch lets go of it. `begin` is called before the first
    trial starts, once all checks have passed.

    Raises:
        ValueError: no cluster answers at the address, or a job asks for more than any node has.
        Interrupted: Ctrl-C or SIGTERM. Everything is stopped; trials that ended are kept.
        Lost: as Interrupted, because the head of the cluster no longer answers.
    """
    if concurrency is not None and not 1 <= concurrency <= MOST_AT_A_TIME:
        raise ValueError(
            f"concurrency must be from 1 to {MOST_AT_A_TIME}, not {shown(concurrency)}"
        )
    environment.check()
    first = jobs.ready()
    if not first:
        return []
    cpus = max(job.cpus for job in first)
    if address == "local" and cpus > usable_cores():
        raise ValueError(f"a trial asks for {cpus} CPUs; this machine has {usable_cores()}")
    check_address(address)
    local = address == "local"
    progress.say("starting Ray on this machine" if local else f"connecting to Ray at {address}")
    try:
        with (
            stoppable(Signals()) as signals,
            cluster.connected(address, cpus * (concurrency or 1)) as ray,
            watched(lambda: cluster.nodes(ray)) as head,
        ):
            signals.install()  # Ray has installed its own
            signals.watched, signals.answer = True, None
            workers = _environment(address, data_dir)
            pool = Pool(ray, concurrency, workers, lambda: head.nodes)
            root = Path(store_root).absolute()
            for job in first:
                pool.check(job)
            _check_places(ray, head.nodes, address, root, progress)
            begin()
            run = Launch(pool, jobs, root, retries, progress, signals, lambda: head.is_lost)
            return run.all(first)
    except KeyboardInterrupt:  # before anything was running
        raise Interrupted([]) from None
    finally:
        progress.close()


def _check_places(
    ray: Any, nodes: list[cluster.Node], address: str, root: Path, progress: ProgressSink
) -> None:
    """`check_nodes`, where trials may run elsewhere than on this process's own node."""
    places = [node for node in nodes if node.cpus]
    if address.startswith("ray://") or len(places) > 1:
        progress.say(f"asking {len(places)} nodes for their versions and the store")
        check_nodes(ray, root)


class Launch:
    """One launch under way."""

    def __init__(
        self,
        pool: Pool,
        jobs: Jobs,
        store_root: Path,
        retries: int,
        progress: ProgressSink,
        signals: Signals,
        head_is_lost: Callable[[], bool] = lambda: False,
    ):
        self.pool, self.jobs, self.root = pool, jobs, store_root
        self.retries, self.progress, self.signals = retries, progress, signals
        self.head_is_lost, self.quarantine = head_is_lost, Quarantine(pool)
        self.queue: list[Job] = []
        self.elsewhere = Elsewhere(store_root)
        self.not_before: dict[str, float] = {}
        self.attempts: dict[str, int] = {}
        self.begun: dict[str, float] = {}
        self.ended: list[tuple[Job, Outcome]] = []
        self.shown: list[Ended] = []
        self.start = signals.since
        self.busy_at = time.monotonic()
        self.nodes, self.asking = Cadence(NODES_EVERY), Cadence(JOBS_EVERY)
        self.showing, self.others = Cadence(SHOW_EVERY), Cadence(ELSEWHERE_EVERY)
        self.why: dict[str, str] = {}  # why a queued job waits

    def all(self, first: list[Job]) -> list[tuple[Job, Outcome]]:
        """Run until nothing is left, or until asked to stop."""
        self._take(first)
        while self.queue or self.pool.busy or self.elsewhere.jobs:
            if self.signals.asked:
                self._wind_down()
                raise Interrupted(self.ended)
            if self.head_is_lost():
                self.progress.say("the head of the Ray cluster no longer answers")
                self._wind_down()
                raise Lost(self.ended)
            self._do(self.nodes, self.pool.look_again)
            # A job may become ready while the one that it waits for still runs.
            self._do(self.asking, lambda: self._take(self.jobs.ready()))
            self._do(self.others, self._look_elsewhere)
            self._dispatch()
            self._do(self.showing, self._show)
            self._collect(self.pool.wait(TICK))
        self._show()
        return self.ended

    def _take(self, new: list[Job]) -> None:
        for job in new:
            self.pool.check(job)
        self.queue += new

    def _dispatch(self) -> None:
        now = time.monotonic()
        if self.pool.busy or not self.queue:
            self.busy_at = now
        for job in list(self.queue):
            if self.not_before.get(job.trial_id, 0.0) > now:
                continue
            there = self.elsewhere.outcome(job)
            if there is not None:
                self.queue.remove(job)
                self._conclude(job, there)
                continue
            slot = self.pool.slot_for(job)
            if slot is None:  # keep the order, so that large jobs are not passed over for ever
                self._no_place(job, now)
                return
            self.queue.remove(job)
            self.why.pop(job.trial_id, None)
            self.begun.setdefault(job.trial_id, now)
            self.attempts[job.trial_id] = self.attempts.get(job.trial_id, 0) + 1
            self.pool.start(slot, job, str(self.root))

    @staticmethod
    def _do(cadence: Cadence, action: Callable[[], None]) -> None:
        if cadence.due():
            begun = time.monotonic()
            action()
            cadence.done(begun)

    def _no_place(self, job: Job, now: float) -> None:
        """If nothing is running, only another node can help: wait for one, but not for ever."""
        asked = f"{job.cpus} CPUs and {job.gpus:g} GPUs"
        self.why[job.trial_id] = (
            f"no node has room for {asked}; it is given up after {NODES_WAIT:.0f} s"
        )
        if not self.pool.busy and now - self.busy_at > NODES_WAIT:
            self.queue.remove(job)
            self._end(job, "faulted", f"no node could hold it for {NODES_WAIT:.0f} s")

    def _collect(self, finished: list[Slot]) -> None:
        for slot in finished:
            job, status, message = self.pool.result(slot)
            if self._is_of_its_node(slot, job, status, message or ""):
                self._forget_attempt(job)
                self.queue.insert(0, job)
            elif status == "busy":
                self._forget_attempt(job)
                self.elsewhere.add(job)
            elif status == "fault":
                self._retry(job, message or "no message")
            elif status != "interrupted":
                self._end(job, "failed" if status == "refused" else status, message)

    def _is_of_its_node(self, slot: Slot, job: Job, status: str, message: str) -> bool:
        """Whether the trial had no worker because of a node that gets no more trials."""
        excused = self.quarantine.excuses(slot, job, status, message)
        said = self.quarantine.judge(slot, job, status, message, time.monotonic() - slot.since)
        if said:
            self.progress.say(said)
        return excused

    def _forget_attempt(self, job: Job) -> None:
        """It never ran: another launch runs it, or its node had no worker for it."""
        self.attempts[job.trial_id] -= 1
        self.begun.pop(job.trial_id, None)

    def _look_elsewhere(self) -> None:
        look = self.elsewhere.look()
        self.queue[:0] = look.left
        for job, outcome in look.ended:
            self._conclude(job, outcome)

    def _retry(self, job: Job, message: str) -> None:
        attempt = self.attempts[job.trial_id]
        self._note_failure(job, message, attempt)
        if attempt > self.retries:
            self._end(job, "faulted", f"{message} (attempt {attempt} of {attempt})")
            return
        pause = 2.0 ** (attempt - 2)
        self.not_before[job.trial_id] = time.monotonic() + pause
        self.why[job.trial_id] = f"{job.label} is tried again in {pause:g} s: {message}"
        self.queue.insert(0, job)

    def _note_failure(self, job: Job, message: str, attempt: int) -> None:
        from harness.records.store import Store

        failure = {"message": message, "time": time.time(), "attempt": attempt}
        try:
            Store(self.root).trial(job.trial_id).write_failure(failure)
        except OSError as error:  # we may write to the very disk that made the trial fail
            self.progress.say(
                f"the failure of trial {job.trial_id} cannot be noted: {os_reason(error)}"
            )

    def _end(self, job: Job, status: Any, message: str | None) -> None:
        now = time.monotonic()
        self._conclude(job, Outcome(status, message, now - self.begun.get(job.trial_id, now)))

    def _conclude(self, job: Job, outcome: Outcome) -> None:
        self.ended.append((job, outcome))
        self.shown.append(Ended(job.trial_id, job.label, job.spec.get("seed", 0), outcome))
        self.jobs.done(job.trial_id, outcome)
        self._take(self.jobs.ready())

    def _wind_down(self) -> None:
        """Ask the trials to take a checkpoint and stop, and wait a little for them."""
        self.progress.say(
            f"stopping: trials take a checkpoint (up to {GRACE:.0f} s); again to stop at once"
            if self.pool.busy
            else "stopping"
        )
        self.pool.ask_to_stop()
        self.queue.clear()
        deadline = time.monotonic() + GRACE
        while self.pool.busy and time.monotonic() < deadline and not self.signals.urgent:
            for slot in self.pool.wait(TICK):
                job, status, message = self.pool.result(slot)
                if status in ("completed", "diverged", "failed"):
                    self._end(job, status, message)
                    self.queue.clear()

    def _show(self) -> None:
        now = time.monotonic()
        running = tuple(
            running_trial(slot, self.attempts[slot.job.trial_id], now)
            for slot in self.pool.busy
            if slot.job is not None
        )
        waiting = len(self.queue) + self.jobs.pending()
        eta = time_left(self.shown, running, waiting, len(self.pool.busy))
        # While something runs, a job without a slot just waits its turn.
        reasons = [self.why.get(job.trial_id, "") for job in self.queue]
        reason = next((why for why in reasons if why and not (running and "no node" in why)), "")
        elapsed, note = now - self.start, self.jobs.note()
        ended, others = tuple(self.shown), len(self.elsewhere.jobs)
        self.progress.update(
            Snapshot(ended, running, waiting, elapsed, eta, note, reason, elsewhere=others)
        )


def _environment(address: str, data_dir: Path | None) -> dict[str, str]:
    """The variables that workers get from this process; on this machine always the data folder."""
    values = environment.forwarded()
    if data_dir is not None or address == "local":
        values[environment.DATA.name] = str(data_folder(data_dir))
    return values
