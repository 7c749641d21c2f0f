"""What can be refused before a launch starts or writes anything."""

from __future__ import annotations

import os
from collections.abc import Iterable

from harness.notes import waiting
from harness.suite import TrialSpec
from harness.training.environment import check_environment, device_wish, threads_wish
from harness.training.memory import check_memory


def default_cpus() -> int:
    """CPU cores of one trial where nobody says: as many as its threads."""
    return threads_wish() or 1


def check_launch(trials: Iterable[TrialSpec], address: str, cpus: int, gpus: float) -> None:
    """Refuse what every worker would refuse, as far as this machine can tell.

    On a cluster (any address but `local`) the workers' devices are not ours to look at.

    Raises:
        ValueError: a `HARNESS_*` variable that says nothing, or asks for a device that is not
            here; fewer CPUs than threads; a trial that needs more memory than there is; a backend
            that cannot run here; data that cannot be had.
    """
    trials = list(trials)
    check_environment()
    threads = threads_wish()
    if threads is not None and cpus < threads:
        raise ValueError(
            f"HARNESS_THREADS is {threads}: a trial needs as many CPUs, not --cpus {cpus}"
        )
    device = device_wish() or ("cuda" if gpus else "cpu")
    if address != "local":
        return
    if gpus:
        import torch

        if gpus > torch.cuda.device_count():
            raise ValueError(
                f"a trial asks for {gpus:g} GPUs; this machine has {torch.cuda.device_count()} "
                "that torch can use"
            )
    if os.environ.get("HARNESS_DEVICE") and device != "cpu":
        from harness.training.machine import pick_device

        pick_device()
    _check_memory(trials, device)
    for model in dict.fromkeys(trial.model for trial in trials):
        model.check_device(device)
    _bring_data(trials)


def _check_memory(trials: list[TrialSpec], device: str) -> None:
    gpu_bytes = None
    if device != "cpu":
        import torch

        there = range(torch.cuda.device_count())
        gpu_bytes = max(torch.cuda.get_device_properties(i).total_memory for i in there)
    # Seeds need the same.
    distinct = {(one.task, one.model, one.training, one.arm): one for one in trials}
    for trial in distinct.values():
        check_memory(trial, gpu_bytes)


def _bring_data(trials: list[TrialSpec]) -> None:
    """Download and process what trials read from archives, once and where one sees it.

    Raises:
        ValueError: data that are not here and cannot be had.
    """
    wanted = dict.fromkeys(t.task for t in trials if t.task.from_archives)
    for task in wanted:
        from harness import tasks

        with waiting(f"the data of {task.name} are made ready"):
            tasks.build(task)


__all__ = ["check_launch", "default_cpus"]
