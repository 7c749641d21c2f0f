"""Warm workers: one Ray actor per slot, with the resources of its jobs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness.environment import DEVICE, THREADS

from . import cluster
from .jobs import Job
from .ray_errors import told, where
from .worker import TrialWorker

POLL_EVERY = 1.0  # seconds
ANSWER = 5.0  # seconds that a living worker may take to tell its node
NODE_LABEL = "ray.io/node-id"  # every node has it
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(eq=False)
class Slot:
    """A worker and its current job."""

    actor: Any
    cpus: int
    gpus: float
    job: Job | None = None
    since: float = 0.0
    run_ref: Any = None
    poll_ref: Any = None
    polled: float = 0.0
    node_id: str | None = None  # as far as known
    where_ref: Any = None
    answered: bool = False  # whether the worker has ever answered: until then Ray is making it
    told: dict[str, Any] = field(default_factory=dict)


class Pool:
    """As many workers as fit, up to a limit. Dead workers are replaced on demand."""

    def __init__(
        self,
        ray: Any,
        limit: int | None = None,
        environment: dict[str, str] | None = None,
        living: Callable[[], list[cluster.Node]] | None = None,
    ) -> None:
        self.ray, self.limit, self.environment = ray, limit, environment or {}
        self.living = living or (lambda: cluster.nodes(ray))
        self.banned: set[str] = set()  # ids of the nodes that get no more trials
        self.nodes = self.living()
        self.slots: list[Slot] = []
        self.actor_class = ray.remote(TrialWorker)

    @property
    def busy(self) -> list[Slot]:
        """The slots with a job."""
        return [slot for slot in self.slots if slot.job is not None]

    def check(self, job: Job) -> None:
        """Raise ValueError if no node can ever hold the job; Ray would wait silently."""
        if self._fitting(job.cpus, job.gpus) == 0:
            most = max(self.nodes, key=lambda n: (n.gpus, n.cpus), default=cluster.Node("", 0, 0))
            raise ValueError(
                f"a trial asks for {job.cpus} CPUs and {job.gpus:g} GPUs; the largest of "
                f"{len(self.nodes)} nodes has {most.cpus:g} CPUs and {most.gpus:g} GPUs"
            )

    def look_again(self) -> None:
        """Notice nodes that joined or left.

        Workers of a lost node are started again elsewhere, and idle workers must not hold the
        resources that they need.
        """
        self.nodes = [node for node in self.living() if node.node_id not in self.banned]
        idle = [slot for slot in self.slots if slot.job is None]
        while idle and min(self._free()) < -1e-6:
            self.discard(idle.pop())

    def slot_for(self, job: Job) -> Slot | None:
        """A free slot for the job: a warm one of its shape, or a new one if that fits."""
        idle = [slot for slot in self.slots if slot.job is None]
        for slot in idle:
            if (slot.cpus, slot.gpus) == (job.cpus, job.gpus):
                return slot
        while not self._room(job):
            if not idle:
                return None
            self.discard(idle.pop())  # of another shape
        return self._make(job)

    def start(self, slot: Slot, job: Job, store_root: str) -> None:
        """Give the slot its job."""
        slot.job, slot.since, slot.told = job, time.monotonic(), {}
        node_cpus = {node.node_id: node.cpus for node in self.nodes}
        slot.run_ref = slot.actor.run.remote(
            job.spec, store_root, job.gpus, node_cpus, job.fork, job.keep_at, job.plugins
        )
        slot.poll_ref, slot.polled = None, slot.since

    def wait(self, timeout: float) -> list[Slot]:
        """The slots whose job has ended, after at most `timeout` seconds; polls the others."""
        by_ref = {}
        now = time.monotonic()
        for slot in self.busy:
            if slot.poll_ref is None and now - slot.polled >= POLL_EVERY:
                slot.poll_ref = slot.actor.poll.remote()
            by_ref[slot.run_ref] = slot
            if slot.poll_ref is not None:
                by_ref[slot.poll_ref] = slot
        if not by_ref:
            time.sleep(timeout)
            return []
        refs = list(by_ref)
        self.ray.wait(refs, num_returns=1, timeout=timeout, fetch_local=False)
        ready, _ = self.ray.wait(refs, num_returns=len(refs), timeout=0)
        for ref in ready:
            if ref == by_ref[ref].poll_ref:
                self._polled(by_ref[ref])
        return [by_ref[ref] for ref in ready if ref == by_ref[ref].run_ref]

    def result(self, slot: Slot) -> tuple[Job, str, str | None]:
        """The ended job, its status and message; frees the slot, or drops it if it is dead."""
        job = slot.job
        assert job is not None
        try:
            status, message = self.ray.get(slot.run_ref)
            slot.answered = True
            lost = status == "fault"
            self._locate(slot, patience=ANSWER)
        except self.ray.exceptions.RayError as error:
            status, message = told(error)
            lost = True
            self._locate(slot, address=where(error))
        lost = lost or slot.node_id in self.banned
        slot.job, slot.run_ref, slot.poll_ref = None, None, None
        if lost:
            self.discard(slot)
        return job, status, message

    def can_spare(self, node_id: str, job: Job) -> bool:
        """Whether another node can hold the job."""
        others = [node for node in self.nodes if node.node_id != node_id]
        return any(_times(node.cpus, node.gpus, job.cpus, job.gpus) for node in others)

    def ban(self, node_id: str) -> str:
        """Start nothing more on a node, and return its name. What runs there goes on."""
        name = next((node.name for node in self.nodes if node.node_id == node_id), node_id)
        self.banned.add(node_id)
        self.nodes = [node for node in self.nodes if node.node_id != node_id]
        for slot in [one for one in self.slots if one.job is None and one.node_id == node_id]:
            self.discard(slot)
        return name

    def ask_to_stop(self) -> None:
        """Set the flag that trials check."""
        for slot in self.busy:
            slot.actor.stop.remote()

    def discard(self, slot: Slot) -> None:
        """End a worker and free its resources."""
        self.slots.remove(slot)
        self.ray.kill(slot.actor, no_restart=True)

    def _fitting(self, cpus: int, gpus: float) -> int:
        """How many jobs of this shape fit an empty cluster, node by node."""
        return sum(_times(node.cpus, node.gpus, cpus, gpus) for node in self.nodes)

    def _room(self, job: Job) -> bool:
        """Whether one more worker of this shape is within the limit and the cluster's totals."""
        if self.limit is not None and len(self.slots) >= self.limit:
            return False
        same = sum((slot.cpus, slot.gpus) == (job.cpus, job.gpus) for slot in self.slots)
        same -= sum(slot.node_id in self.banned for slot in self.slots)
        return _times(*self._free(), job.cpus, job.gpus) > 0 and same < self._fitting(
            job.cpus, job.gpus
        )

    def _free(self) -> tuple[float, float]:
        """The cluster's CPUs and GPUs that our workers do not use."""
        slots = [slot for slot in self.slots if slot.node_id not in self.banned]
        cpus = sum(n.cpus for n in self.nodes) - sum(s.cpus for s in slots)
        gpus = sum(n.gpus for n in self.nodes) - sum(s.gpus for s in slots)
        return cpus, gpus

    def _make(self, job: Job) -> Slot:
        threads = self.environment.get(THREADS.name, str(job.cpus))
        environment = dict.fromkeys(_THREAD_VARIABLES, threads)
        environment[DEVICE.name] = "cuda" if job.gpus else "cpu"
        if not job.gpus:  # on a GPU, threads keep the trial's own default, whatever its CPUs
            environment[THREADS.name] = threads
        environment |= self.environment
        away = {NODE_LABEL: f"!in({','.join(sorted(self.banned))})"}
        actor = self.actor_class.options(
            num_cpus=job.cpus,
            num_gpus=job.gpus,
            max_concurrency=2,
            max_restarts=0,
            runtime_env={"env_vars": environment},
            **({"label_selector": away} if self.banned else {}),
        ).remote()
        slot = Slot(actor, job.cpus, job.gpus, where_ref=actor.where.remote())
        self.slots.append(slot)
        return slot

    def _locate(self, slot: Slot, address: str | None = None, patience: float = 0.0) -> None:
        """Note the node of a worker that has answered, or died at a known address."""
        if slot.node_id is not None:
            return
        with contextlib.suppress(self.ray.exceptions.RayError):  # nor did it answer this
            if self.ray.wait([slot.where_ref], timeout=patience)[0]:
                slot.node_id = self.ray.get(slot.where_ref)
                return
        there = [node.node_id for node in self.nodes if address and node.address == address]
        slot.node_id = there[0] if len(there) == 1 else None

    def _polled(self, slot: Slot) -> None:
        # If the worker is dead, the run's own reference says why.
        with contextlib.suppress(self.ray.exceptions.RayError):
            slot.told = self.ray.get(slot.poll_ref)
            slot.answered = True
            self._locate(slot)
        slot.poll_ref, slot.polled = None, time.monotonic()


def _times(cpus: float, gpus: float, asked_cpus: int, asked_gpus: float) -> int:
    """How often the request fits."""
    by_cpus = int(cpus // asked_cpus)
    if not asked_gpus:
        return by_cpus
    # A fraction of a GPU cannot span two.
    by_gpus = gpus // asked_gpus if asked_gpus >= 1 else gpus * (1 / asked_gpus + 1e-9) // 1
    return min(by_cpus, int(by_gpus))
