"""A launch under way: jobs go to workers, faults of machines are retried, a stop is clean."""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.records.store import Store
from harness.tools.inputs import cut, os_reason
from harness.training.host.stops import Signals

from .attempts import Attempts
from .cadence import Cadence
from .elsewhere import Elsewhere
from .jobs import Interrupted, Job, Jobs, Lost, Outcome
from .picture import Picture
from .pool import Pool, Slot
from .progress import Ended, ProgressSink
from .quarantine import Quarantine
from .ray_errors import is_lost_node, is_unreachable
from .tally import Tally

TICK = 0.25  # seconds between checks for signals
GRACE = 10.0  # seconds that trials get to take a checkpoint after Ctrl-C
SHOW_EVERY = 0.5  # seconds between snapshots
JOBS_EVERY = 0.5  # seconds between checks for jobs that have become ready
ELSEWHERE_EVERY = 1.0  # seconds between looks at the trials that other launches run
NODES_EVERY = 1.0  # seconds between looks at what the head last told of the nodes
NODES_WAIT = 300.0  # seconds to wait for a lost node to be replaced
SCALE_WAIT = 1800.0  # the same, where an autoscaler starts nodes
SCALE_EVERY = 5.0  # seconds between looks at how many workers are wanted


class Launch:
    """One launch under way."""

    def __init__(
        self,
        pool: Pool,
        jobs: Jobs,
        store_root: Path | str,
        retries: int,
        progress: ProgressSink,
        signals: Signals,
        head_is_lost: Callable[[], bool] = lambda: False,
    ):
        self.pool, self.jobs, self.store = pool, jobs, Store(store_root)
        self.attempts, self.progress, self.signals = Attempts(retries), progress, signals
        self.head_is_lost, self.quarantine = head_is_lost, Quarantine(pool)
        self.queue: list[Job] = []
        self.first: set[str] = set()  # of these, those that were put first
        self.tally = Tally()
        self.elsewhere = Elsewhere(self.store)
        self.ended: list[tuple[Job, Outcome]] = []
        self.shown: list[Ended] = []
        self.picture = Picture(pool, jobs, self.attempts, self.elsewhere, self.tally, signals.since)
        self.busy_at = time.monotonic()
        self.nodes, self.asking = Cadence(NODES_EVERY), Cadence(JOBS_EVERY)
        self.showing, self.others = Cadence(SHOW_EVERY), Cadence(ELSEWHERE_EVERY)
        self.scaling = Cadence(SCALE_EVERY)

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
            self._do(self.nodes, self._look_at_nodes)
            # A job may become ready while the one that it waits for still runs.
            self._do(self.asking, lambda: self._take(self.jobs.ready()))
            self._do(self.others, self._look_elsewhere)
            self._dispatch()
            self._do(self.scaling, lambda: self.pool.want(self.queue))
            self._do(self.showing, self._show)
            self._collect(self.pool.wait(TICK))
        self._show()
        return self.ended

    def _take(self, new: list[Job]) -> None:
        for job in new:
            self.pool.check(job)
            bisect.insort(self.queue, job, key=self._rank)

    def _rank(self, job: Job) -> tuple[bool, int, float]:
        """The place in the queue, where jobs that have been waiting go before others like them."""
        return job.trial_id not in self.first, job.stage, -job.work

    def _put_first(self, job: Job) -> None:
        self.first.add(job.trial_id)
        self.queue.insert(0, job)

    def _dispatch(self) -> None:
        """Start what there is room for, in order, so that large jobs are not passed over for ever.

        A trial that waits because of the node that failed it is passed over there only.
        """
        now = time.monotonic()
        if self.pool.busy or not self.queue:
            self.busy_at = now
        kept: set[str] = set()
        for job in list(self.queue):
            there = self.elsewhere.outcome(job)
            if there is not None:
                self.queue.remove(job)
                self._conclude(job, there)
                continue
            away = self.attempts.away(self.pool, job, now)
            slot = self.pool.slot_for(job, away | kept)
            if slot is None and away:
                kept |= self.pool.others(away)
                continue
            if slot is None:
                if not kept:
                    self._no_place(job, now)
                return
            self.queue.remove(job)
            self.first.discard(job.trial_id)
            not_before = self.attempts.begin(job.trial_id, now)
            claim = self.attempts.claim(job.trial_id)
            self.pool.start(slot, job, self.store.absolute(), *claim, not_before=not_before)

    @staticmethod
    def _do(cadence: Cadence, action: Callable[[], None]) -> None:
        if cadence.due():
            begun = time.monotonic()
            action()
            cadence.done(begun)

    def _no_place(self, job: Job, now: float) -> None:
        """If nothing is running, only another node can help: wait for one, but not for ever, unless
        there is one that somebody has drained."""
        drained = self.pool.drained_for(job)
        if drained:
            self.attempts.why[job.trial_id] = (
                f"no node has room for {job.shape} but drained ones: {cut(', '.join(drained))}"
            )
            self.busy_at = now
            return
        patience = NODES_WAIT if self.pool.autoscaler is None else SCALE_WAIT
        self.attempts.why[job.trial_id] = (
            f"no node has room for {job.shape}; it is given up after {patience:.0f} s"
        )
        if not self.pool.busy and now - self.busy_at > patience:
            self.queue.remove(job)
            self._end(job, "faulted", f"no node could hold it for {patience:.0f} s")

    def _collect(self, finished: list[Slot]) -> None:
        for slot in finished:
            job, status, message = self._result(slot)
            if self._is_of_its_node(slot, job, status, message or ""):
                self.attempts.forget(job.trial_id)
                self._put_first(job)
            elif status == "busy":
                self.attempts.forget(job.trial_id)
                self.elsewhere.add(job)
            elif status == "fault":
                self._retry(slot, job, message or "no message")
            elif status == "interrupted":
                self.attempts.stopped(job.trial_id)
                self.attempts.leave(job.trial_id, slot)
                self._put_first(job)
            else:
                self._end(job, "failed" if status == "refused" else status, message)

    def _result(self, slot: Slot) -> tuple[Job, str, str | None]:
        job, status, message = self.pool.result(slot)
        self.tally.spend(job, time.monotonic() - slot.since)
        return job, status, message

    def _is_of_its_node(self, slot: Slot, job: Job, status: str, message: str) -> bool:
        """Whether the trial had no worker because of a node that gets no more trials."""
        excused = self.quarantine.excuses(slot, job, status, message)
        said = self.quarantine.judge(slot, job, status, message, time.monotonic() - slot.since)
        if said:
            self.tally.quarantined.append(said)
            self.progress.say(said)
        return excused

    def _look_at_nodes(self) -> None:
        for line in self.pool.look_again():
            self.progress.say(line)

    def _look_elsewhere(self) -> None:
        look = self.elsewhere.look()
        for job, owner in look.left:
            self.attempts.owners[job.trial_id] = owner
            self.tally.takeovers += bool(owner)
            self._put_first(job)
        for job, outcome in look.ended:
            self._conclude(job, outcome)

    def _retry(self, slot: Slot, job: Job, message: str) -> None:
        attempt = self.attempts.count[job.trial_id]
        if is_unreachable(message) and slot.node_id is not None:
            message += f" ({self.pool.name_of(slot.node_id)})"
        self._note_failure(job, message, attempt)
        if not self.attempts.failed(job, message):
            self._end(job, "faulted", f"{message} (attempt {attempt} of {attempt})")
            return
        self.tally.retries += 1
        if is_lost_node(message):  # it begins again at once, so no snapshot tells why
            self.progress.say(self.attempts.why[job.trial_id])
        if is_lost_node(message) and slot.node_id is not None:
            self.pool.ban(slot.node_id)  # the head may count it among the living for a while
        if is_unreachable(message) and slot.node_id is not None:
            self.pool.suspect(slot.node_id, job)
        self.attempts.leave(job.trial_id, slot)
        self._put_first(job)

    def _note_failure(self, job: Job, message: str, attempt: int) -> None:
        failure = {"message": message, "time": time.time(), "attempt": attempt}
        try:
            self.store.trial(job.trial_id).write_failure(failure)
        except OSError as error:  # we may write to the very disk that made the trial fail
            self.progress.say(
                f"the failure of trial {job.trial_id} cannot be noted: {os_reason(error)}"
            )

    def _end(self, job: Job, status: Any, message: str | None) -> None:
        self._conclude(job, Outcome(status, message, self.attempts.seconds(job.trial_id)))

    def _conclude(self, job: Job, outcome: Outcome) -> None:
        self.ended.append((job, outcome))
        self.shown.append(Ended(job.trial_id, job.label, job.spec.get("seed", 0), outcome))
        self.jobs.done(job.trial_id, outcome)
        self._take(self.jobs.ready())

    def _wind_down(self) -> None:
        """Ask the trials to take a checkpoint and stop, and wait a little for them."""
        self.pool.ask_to_stop()
        self.progress.say(
            f"stopping: trials take a checkpoint (up to {GRACE:.0f} s); again to stop at once"
            if self.pool.busy
            else "stopping"
        )
        self.queue.clear()
        deadline = time.monotonic() + GRACE
        while self.pool.busy and time.monotonic() < deadline and not self.signals.urgent:
            for slot in self.pool.wait(TICK):
                job, status, message = self._result(slot)
                if status in ("completed", "diverged", "failed"):
                    self._end(job, status, message)
                    self.queue.clear()

    def _show(self) -> None:
        self.progress.update(self.picture.at(time.monotonic(), self.queue, self.shown))


__all__ = ["Launch"]
