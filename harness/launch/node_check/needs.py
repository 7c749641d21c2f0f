"""What the trials of a launch need of a node, as far as nodes are asked about it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from harness import environment
from harness.plugins import Source
from harness.suite.specs import TrialSpec
from harness.tasks import TaskSpecBase
from harness.tasks.storage.copies import DataSet, data_set
from harness.training.host.memory import least_memory

from ..jobs import Job, Shape


@dataclass(frozen=True)
class Needs:
    """What trials need: GPUs for torch, bytes of main memory at least by the shape of their
    workers, data that are not generated, and installed packages with plug-ins.

    Plug-ins in files are not asked for: the launch sends their content, and a worker that received
    anything else refuses it (`harness.suite.bring.receive`).
    """

    gpus: bool = True
    memory: tuple[tuple[Shape, int], ...] = ()
    data: tuple[DataSet, ...] = ()
    packages: tuple[Source, ...] = ()


def needs_of(jobs: Iterable[Job]) -> Needs:
    """The needs of jobs. Those that begin later need no other data, since what they wait for has
    the same task."""
    on_cpu = environment.DEVICE.get() == "cpu"
    gpus, memory, packages = False, dict[Shape, int](), dict[str, Source]()
    tasks = dict[TaskSpecBase, None]()
    for job, trial in _distinct(jobs):
        need = least_memory(trial)
        trained = need.model + need.activations if on_cpu or not job.gpus else 0
        memory[job.shape] = max(memory.get(job.shape, 0), need.data + trained)
        gpus |= bool(job.gpus) and not on_cpu
        tasks[trial.task] = None
        packages |= {one.sha256: one for one in job.plugins if one.distribution is not None}
    found = (data_set(task) for task in tasks)
    data = dict.fromkeys(one for one in found if one is not None)
    return Needs(gpus, tuple(memory.items()), tuple(data), tuple(packages.values()))


def _distinct(jobs: Iterable[Job]) -> Iterable[tuple[Job, TrialSpec]]:
    """One of the jobs that differ only by seed."""
    found = dict[tuple[str, Shape], Job]()
    for job in jobs:
        parts = {key: part for key, part in job.spec.items() if key != "seed"}
        found.setdefault((json.dumps(parts, sort_keys=True), job.shape), job)
    for job in found.values():
        yield job, TrialSpec.model_validate_json(json.dumps(job.spec))


__all__ = ["Needs", "needs_of"]
