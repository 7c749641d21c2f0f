"""Warm workers: one Ray actor per slot, with the resources of its jobs."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Any

from . import cluster
from .actor import actor_options
from .autoscaler import Autoscaler
from .jobs import Job, Shape
from .ray_errors import told, where
from .room import Room, lack
from .slot import Slot
from .worker import TrialWorker

POLL_EVERY = 1.0  # seconds
POLLS = 200.0  # a second at most, of all workers together: each is a call and a turn of the loop
DOUBT = 30.0  # seconds; with the health checks that we advise, Ray knows after 20


class Pool:
    """As many workers as fit, up to a limit. Dead workers are replaced on demand."""

    worker: type[TrialWorker] = TrialWorker

    def __init__(
        self,
        ray: Any,
        limit: int | None = None,
        environment: dict[str, str] | None = None,
        living: Callable[[], list[cluster.Node]] | None = None,
        autoscaler: Autoscaler | None = None,
        code: str | None = None,
    ) -> None:
        self.code = code  # the checksum that the harness of every worker must have
        self.ray, self.limit, self.environment = ray, limit, environment or {}
        self.living = living or (lambda: cluster.nodes(ray))
        self.autoscaler = autoscaler
        self.banned: set[str] = set()  # ids of the nodes that get no more trials
        self.marked: set[str] = set()  # of them, those that a mark in the store keeps away
        self.suspects: dict[str, float] = {}  # nodes that may be lost, and until when to doubt
        self.nodes = self.living()
        self.slots: list[Slot] = []
        self.unanswered: set[Slot] = set()  # of them, those that Ray is making
        self.room: Room | None = None  # what our workers leave; None once that has changed
        self.possible: set[Shape] = set()  # what some node could hold, though it may be gone
        self.actor_class = ray.remote(self.worker)

    @property
    def busy(self) -> list[Slot]:
        """The slots with a job."""
        return [slot for slot in self.slots if slot.job is not None]

    def check(self, job: Job) -> None:
        """Raise ValueError if no node can ever hold the job, there or to come; Ray would wait
        silently. The autoscaler may take some seconds to decide."""
        if job.shape in self.possible or Room(nodes := self.living()).take(job.shape):
            self.possible.add(job.shape)
            return
        if self.autoscaler is not None and self.autoscaler.brings(job.shape, self.living):
            self.possible.add(job.shape)
            return
        and_no_more = "" if self.autoscaler is None else ", and the autoscaler starts none for it"
        raise ValueError(f"a trial asks for {job.shape}; {lack(job.shape, nodes)}{and_no_more}")

    def want(self, waiting: Iterable[Job]) -> None:
        """Tell the autoscaler, if there is one, of all workers that could be at work now."""
        if self.autoscaler is not None:
            wanted = [slot.shape for slot in self.busy] + [job.shape for job in waiting]
            self.autoscaler.wanted = Counter(wanted[: self.limit])

    def look_again(self) -> list[str]:
        """Notice nodes that joined, left, are leaving or drained; returns what is to be said.

        Workers of a lost node are started again elsewhere, and idle workers must not hold the
        resources that they need. Trials on a node that is leaving or drained are asked to stop.
        """
        living = self.living()
        said = [*self._give_back(living), *self._vacate(living)]
        self.nodes = [node for node in living if node.node_id not in self.banned]
        self.room = None
        idle = [slot for slot in self.slots if slot.job is None]
        while not self._all_have_room() and idle:
            self.discard(idle.pop())
        return said

    def _give_back(self, living: list[cluster.Node]) -> Iterable[str]:
        """Take nodes again whose mark is gone."""
        for node in living:
            if node.node_id in self.marked and not node.drained:
                self.marked.discard(node.node_id)
                self.banned.discard(node.node_id)
                yield f"node {node.name} takes trials again"

    def _vacate(self, living: list[cluster.Node]) -> Iterable[str]:
        """Move the trials of nodes elsewhere that are leaving or drained."""
        for node in living:
            if node.node_id in self.banned or not (node.leaving or node.drained):
                continue
            why = "is about to go" if node.leaving else "is drained by a mark in the store"
            if not node.leaving:
                self.marked.add(node.node_id)
            self.ban(node.node_id)
            self.ask_to_stop(node.node_id)
            yield f"node {node.name} {why}: its trials take a checkpoint and go on elsewhere"

    def slot_for(self, job: Job, away: Collection[str] = ()) -> Slot | None:
        """A free slot for the job, on none of the nodes `away`: a worker of its shape that is
        there, else one that is being made, else a new one if that fits."""
        away = self._doubted() | frozenset(away)
        idle = [slot for slot in self.slots if slot.job is None]
        same = [slot for slot in idle if slot.shape == job.shape and slot.may_run(away)]
        if same:
            return next((slot for slot in same if slot.answered), same[0])
        away |= self.banned
        while not self._has_room(job.shape, away):
            if not idle:
                return None
            self.discard(idle.pop())  # of another shape, or on a node that the job must not have
        return self._make(job, away)

    def start(
        self,
        slot: Slot,
        job: Job,
        store: str,
        owner: str | None = None,
        instead_of: str | None = None,
        *,
        not_before: float = 0.0,
    ) -> None:
        """Give the slot its job, which begins then (on the monotonic clock) or later; `owner` and
        `instead_of` are those of the trial's claim."""
        slot.job, slot.since, slot.told, slot.not_before = job, time.monotonic(), {}, not_before
        node_cpus = {node.node_id: node.cpus for node in self.nodes}
        slot.arguments = (
            job.spec, store, job.gpus, node_cpus, job.fork, job.keep_at, job.plugins,
            owner, instead_of,
        )  # fmt: skip
        slot.run_ref, slot.poll_ref, slot.polled = None, None, slot.since
        self._begin(slot)

    def wait(self, timeout: float) -> list[Slot]:
        """The slots whose job has ended, after at most `timeout` seconds; polls the others."""
        by_ref, barred = {}, []
        now, every = time.monotonic(), max(POLL_EVERY, len(self.slots) / POLLS)
        for slot in self.busy:
            self._begin(slot)
            if slot.run_ref is None:
                if slot.is_making:
                    by_ref[slot.where_ref] = slot
                elif slot.node_id in self.banned:
                    barred.append(slot)
                continue
            if slot.poll_ref is None and now - slot.polled >= every:
                slot.poll_ref = slot.actor.poll.remote()
            by_ref[slot.run_ref] = slot
            if slot.poll_ref is not None:
                by_ref[slot.poll_ref] = slot
        if barred:
            return barred
        if not by_ref:
            time.sleep(timeout)
            return []
        refs = list(by_ref)
        self.ray.wait(refs, num_returns=1, timeout=timeout, fetch_local=False)
        ready, _ = self.ray.wait(refs, num_returns=len(refs), timeout=0)
        for ref in ready:
            if ref == by_ref[ref].poll_ref:
                self._polled(by_ref[ref])
            elif ref == by_ref[ref].where_ref:
                self._answered(by_ref[ref])
        return [by_ref[ref] for ref in ready if ref == by_ref[ref].run_ref]

    def result(self, slot: Slot) -> tuple[Job, str, str | None]:
        """The ended job, its status and message; frees the slot, or drops it if it is dead."""
        job = slot.job
        assert job is not None
        status: str
        message: str | None
        try:
            # It had not begun, and its node takes no more.
            barred = slot.run_ref is None and slot.node_id in self.banned
            status, message = ("interrupted", None) if barred else self.ray.get(slot.run_ref)
            lost = status in ("fault", "interrupted")  # one that was asked to stop takes no more
        except self.ray.exceptions.RayError as error:
            status, message = told(error)
            lost = True
            self._find(slot, where(error))
        lost = lost or slot.node_id in self.banned
        slot.job, slot.run_ref, slot.poll_ref = None, None, None
        if lost:
            self.discard(slot)
        else:
            self._relieve(slot)
        return job, status, message

    def can_spare(self, node_id: str, job: Job) -> bool:
        """Whether another node can hold the job."""
        return Room(node for node in self.nodes if node.node_id != node_id).take(job.shape)

    def drained_for(self, job: Job) -> list[str]:
        """The names of the nodes that could hold the job if they were not drained."""
        if not self.marked:
            return []
        drained = [node for node in self.living() if node.node_id in self.marked]
        return [node.name for node in drained if Room([node]).take(job.shape)]

    def others(self, away: Collection[str]) -> set[str]:
        """The nodes but for these."""
        return {node.node_id for node in self.nodes} - set(away)

    def suspect(self, node_id: str, job: Job) -> None:
        """Start nothing on a node for a while, until the head knows whether it lives; unless no
        other can hold the job."""
        if self.can_spare(node_id, job):
            self.suspects[node_id] = time.monotonic() + DOUBT

    def name_of(self, node_id: str) -> str:
        """A node's name for people."""
        return next((node.name for node in self.nodes if node.node_id == node_id), node_id)

    def ban(self, node_id: str) -> str:
        """Start nothing more on a node, and return its name. What runs there goes on."""
        name = self.name_of(node_id)
        self.banned.add(node_id)
        self.nodes = [node for node in self.nodes if node.node_id != node_id]
        self.room = None
        for slot in [one for one in self.slots if one.job is None and one.node_id == node_id]:
            self.discard(slot)
        return name

    def ask_to_stop(self, node_id: str | None = None) -> None:
        """Set the flag that trials check, on all nodes or on one. Where all are asked, jobs that
        have not begun are taken back."""
        for slot in self.busy:
            if slot.run_ref is not None and node_id in (None, slot.node_id):
                slot.actor.stop.remote()
            if slot.run_ref is None and node_id is None:
                slot.job = None

    def discard(self, slot: Slot) -> None:
        """End a worker and free its resources."""
        self.slots.remove(slot)
        self.unanswered.discard(slot)
        self.room = None
        self.ray.kill(slot.actor, no_restart=True)

    def _doubted(self) -> frozenset[str]:
        now = time.monotonic()
        return frozenset(node_id for node_id, until in self.suspects.items() if now < until)

    def _has_room(self, shape: Shape, away: Collection[str]) -> bool:
        """Whether one more worker of this shape is within the limit and fits a node beside the
        others; if so, its place is taken."""
        if self.limit is not None and len(self.slots) >= self.limit:
            return False
        if self.room is None:
            self._all_have_room()
        assert self.room is not None
        return self.room.take(shape, away)

    def _all_have_room(self) -> bool:
        """Place all workers; false if there is no place for some, which wait for others to go."""
        self.room, fit = Room(self.nodes), True
        unplaced = []
        for slot in self.slots:
            if slot.node_id is None:
                unplaced.append(slot)
            else:
                fit &= self.room.take_on(slot.node_id, slot.shape)
        for slot in unplaced:
            slot.placed = self.room.take(slot.shape, slot.away)
        return fit and all(slot.placed for slot in unplaced)

    def _make(self, job: Job, away: frozenset[str]) -> Slot:
        options, secret = actor_options(job, self.environment, away)
        actor = self.actor_class.options(**options).remote(
            own_process=True, settings=secret, code=self.code
        )
        slot = Slot(
            actor,
            job.cpus,
            job.gpus,
            away=away,
            where_ref=actor.where.remote(),
            memory=job.memory,
            accelerator=job.accelerator,
        )
        self.slots.append(slot)
        self.unanswered.add(slot)
        return slot

    def _begin(self, slot: Slot) -> None:
        """Hand the job over if that is due and the worker is there. Until then the job can still be
        given to another worker, and no two can be running it."""
        here = slot.answered and slot.node_id not in self.banned
        if here and slot.run_ref is None and time.monotonic() >= slot.not_before:
            slot.run_ref = slot.actor.run.remote(*slot.arguments)

    def _answered(self, slot: Slot) -> None:
        """A worker has come up, or could not be made: then that is how its job ends."""
        try:
            slot.node_id = self.ray.get(slot.where_ref)
        except self.ray.exceptions.RayError:
            slot.run_ref = slot.where_ref
            return
        self.unanswered.discard(slot)
        slot.answered, self.room = True, None
        self._begin(slot)

    def _relieve(self, slot: Slot) -> None:
        """Give the free worker the oldest job of its shape whose own worker is still being made,
        which may take for ever where Ray has no room for it."""
        for other in self.slots if self.unanswered else ():
            if other.is_making and other.shape == slot.shape and slot.may_run(other.away):
                slot.job, slot.since, slot.told = other.job, other.since, {}
                slot.not_before, slot.arguments = other.not_before, other.arguments
                other.job, slot.polled = None, time.monotonic()
                self._begin(slot)
                return

    def _find(self, slot: Slot, address: str | None) -> None:
        """Note the node of a worker that could not be made, from the address in the error."""
        if slot.node_id is None:
            there = [node.node_id for node in self.nodes if address and node.address == address]
            slot.node_id = there[0] if len(there) == 1 else None

    def _polled(self, slot: Slot) -> None:
        # If the worker is dead, the run's own reference says why.
        with contextlib.suppress(self.ray.exceptions.RayError):
            slot.told = self.ray.get(slot.poll_ref)
        slot.poll_ref, slot.polled = None, time.monotonic()
